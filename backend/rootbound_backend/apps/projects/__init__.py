"""Projects: a repository, its commands and its policy."""
