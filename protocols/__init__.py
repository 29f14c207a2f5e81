"""What is said: messages, samples, quality, names, codec, errors. Data only: no socket, thread, clock or file."""
