"""Data: readers and formats (torch-free), masks and batches."""
