"""What is deployed: architectures, where models and weights come from, data, training and evaluation."""
