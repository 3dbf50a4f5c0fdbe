"""What a model is: its file, its graph, and how both are read and written without loss."""
