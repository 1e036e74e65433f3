<?php
class DB
{
    const CHANGED = 'no';
}
