"""Rules of the resources of autoscaling: horizontal pod autoscalers."""
