"""The stream: quotes and account events to clients over WebSocket, fanned out inside one process."""
