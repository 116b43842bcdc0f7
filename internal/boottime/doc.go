// Package boottime tells how long the machine was suspended. The clock of package time stands still meanwhile, so
// durations that it measures are too short by that.
package boottime
