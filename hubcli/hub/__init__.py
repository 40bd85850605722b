"""Sources of bytes: folders, the Hugging Face cache, mirrors, and hubs."""
