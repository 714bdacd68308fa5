"""ESMTP: the receiving server and the sending client."""
