package transport

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/hashicorp/raft"
)

// ServerAddress returns a master's address in raft: "memberid@host:port".
func ServerAddress(member, hostPort string) raft.ServerAddress {
	return raft.ServerAddress(member + "@" + hostPort)
}

// SplitAddress returns the parts of a master's address in raft.
func SplitAddress(a raft.ServerAddress) (member, hostPort string, err error) {
	member, hostPort, ok := strings.Cut(string(a), "@")
	if !ok || member == "" || hostPort == "" {
		return "", "", fmt.Errorf("raft address %q is not memberid@host:port", a)
	}
	return member, hostPort, nil
}

// Listen opens the raft port. It also returns the address at which the other masters reach it: advertise, or the
// listener's own address if advertise is "".
func Listen(bind, advertise string) (net.Listener, string, error) {
	listener, err := net.Listen("tcp", bind)
	if err != nil {
		return nil, "", fmt.Errorf("raft port: %w", err)
	}
	if advertise == "" {
		advertise = listener.Addr().String()
	}
	host, port, err := net.SplitHostPort(advertise)
	if ip := net.ParseIP(host); err == nil && (host == "" || port == "0" || ip != nil && ip.IsUnspecified()) {
		err = errors.New("the other masters cannot dial it: say which address they are to use")
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("raft address %s: %w", advertise, err), listener.Close())
	}
	return listener, advertise, nil
}

// streamAddr is this master's own address, in the form of [net.Addr].
type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }
