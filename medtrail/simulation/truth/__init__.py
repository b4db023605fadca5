"""What is really so, known without asking anybody: plain values, and the rules as they are written down."""
