package roles

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// checkLoopback refuses an address other than a loopback address, unless insecure allows it.
func checkLoopback(flag, hostport string, insecure bool) error {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return fmt.Errorf("%s %q: %w", flag, hostport, err)
	}
	if ip := net.ParseIP(host); insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s %s is not a loopback address: tokens and records would cross the network unencrypted; "+
		"give --insecure if you trust the network, or use 127.0.0.1", flag, hostport)
}

// listen opens the HTTP listener of a role. It returns the URL at which the other nodes reach it.
func listen(addr, advertise string, insecure bool) (net.Listener, string, error) {
	if err := checkLoopback("--http", addr, insecure); err != nil {
		return nil, "", err
	}
	if advertise != "" {
		u, err := url.Parse(advertise)
		if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return nil, "", fmt.Errorf("--advertise %q is not written http://host:port", advertise)
		}
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, "", fmt.Errorf("--http %s: the port is in use by another process: %w", addr, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("--http %s: %w", addr, err)
	}
	if advertise == "" {
		advertise = "http://" + l.Addr().String()
	}
	return l, strings.TrimRight(advertise, "/"), nil
}
