<?php
namespace CCL;

class Tasks
{
    public static function styles(array $task)
    {
        file_put_contents($task['to'], '/* compiled */ ' . file_get_contents($task['file']));
    }
}
