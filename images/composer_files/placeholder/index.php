<?php
// Stands in the web root until the application's files are copied over it.
header('Content-Type: text/plain; charset=utf-8');
echo "The web server works. No application is installed in this image.\n";
