"""What a link decides, pure: which items are wanted, what a notification means, who may write, what a lapse does."""
