"""What an administrator can do, one module for each noun."""
