"""What is kept in files, and how it is read and written safely."""
