"""Pictures and videos that show what preprocessing made of clips."""
