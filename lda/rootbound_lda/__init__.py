"""The Local Desktop Agent: the only process of Rootbound that touches the user's files."""
