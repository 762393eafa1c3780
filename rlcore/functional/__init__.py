"""Pure mathematics: functions of tensors and arrays, no state."""
