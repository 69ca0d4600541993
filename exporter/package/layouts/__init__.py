"""Packages as other servers read them: Triton's model repository, MLflow's model."""
