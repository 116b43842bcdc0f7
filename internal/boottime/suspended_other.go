//go:build !linux

package boottime

import "time"

// Suspended is known on Linux only.
func Suspended() time.Duration { return 0 }
