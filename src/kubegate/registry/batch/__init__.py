"""Rules of the resources of batch/v1: jobs and cron jobs."""
