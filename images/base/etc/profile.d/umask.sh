# What a person creates in a shell is for its owner and group alone.
umask 0027
