"""What each address answers: plain documents, with the shapes that the command line prints."""
