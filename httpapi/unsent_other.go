//go:build !linux

package httpapi

import "net"

// unsent is known on Linux only.
func unsent(net.Conn) int64 { return 0 }
