"""mmengine's runner, made to go on exactly."""
