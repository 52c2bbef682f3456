"""Rules of the resources of policy/v1: disruption budgets."""
