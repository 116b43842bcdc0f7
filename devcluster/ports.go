package devcluster

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// PortsFree names the first port that another process has. Of roles that do not run on loopback it knows nothing.
func PortsFree(t Topology) error {
	for _, r := range t.Roles() {
		for _, addr := range []string{r.HTTP, r.Raft} {
			if addr == "" || r.Place.Host != "" {
				continue
			}
			l, err := net.Listen("tcp", addr)
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("%s: %s is in use by another process: stop that, or move all ports together with --port BASE", r.Name, addr)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
			if err := l.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// FreePort finds a base port at which a cluster of the default topology can be started on loopback just now.
func FreePort() (int, error) {
	const tries, most = 100, 1 << 16
	for range tries {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		base := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, err
		}
		if base+100 < most && PortsFree(NewTopology("/", base)) == nil {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no base with enough free ports was found in %d tries", tries)
}
