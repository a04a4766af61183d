"""The MCP server: what another agent may do with Rootbound in a user's name."""
