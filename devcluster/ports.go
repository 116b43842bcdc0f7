package devcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
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

// FreePort finds a base port at which a cluster of the default topology can be started on loopback just now. It is below the ports that the kernel gives
// to outgoing connections: one of these would be in the way a moment later.
func FreePort() (int, error) {
	const tries, first, bases, apart = 200, 3_000, 69, 100
	for range tries {
		base := first + apart*rand.IntN(bases)
		if PortsFree(NewTopology("/", base)) == nil {
			return base, nil
		}
	}
	return 0, fmt.Errorf("no base with enough free ports was found in %d tries", tries)
}
