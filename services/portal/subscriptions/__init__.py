"""Query subscriptions: by webhook, by schedule, and over WebSocket."""
