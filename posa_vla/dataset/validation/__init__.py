"""What is found of episodes before anybody learns from them, and the pages that show it."""
