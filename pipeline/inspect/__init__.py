"""Contact sheets and videos that show the result of preprocessing."""
