"""One room per component: how its stored forms are decoded, where it goes, and how it is encoded again."""
