package devcluster

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// portsFree returns an error that names the first port in use by another process. It does not check roles that run
// elsewhere than on the loopback address.
func portsFree(t Topology) error {
	for _, r := range t.Roles() {
		for _, addr := range []string{r.HTTP, r.Raft} {
			if addr == "" || r.Remote {
				continue
			}
			l, err := net.Listen("tcp", addr)
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("%s: %s is in use by another process: stop that, or move all ports together with "+
					"--port BASE", r.Name, addr)
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
