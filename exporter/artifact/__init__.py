"""What an export writes: the manifest, the folder, and the golden images with the source's answers."""
