"""What is checked and described before models are trained."""
