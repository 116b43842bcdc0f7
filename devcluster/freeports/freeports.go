// Package freeports finds ports on loopback for the servers of tests. A server that listens on port 0 needs no help. One
// that stops and comes back on its port, or whose address must be known before it runs, does: between two servers on it a
// port belongs to nobody, and a connection or another test may take it.
//
// Claim therefore gives out ports below those that the kernel gives to outgoing connections and to listeners on port 0, and
// holds one port of each block as long as the block is in use. So no two callers have the same block, whatever their
// process.
package freeports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

const (
	blockSize = 100
	// lowest and end bound the ports of all blocks. The kernel's own begin at 32768 on Linux, and higher elsewhere.
	lowest, end = 3_000, 32_000
)

// Claim takes the ports from base up to base+n-1 until release is called. They are in whole blocks of 100, of which the
// last port is held and is not the caller's to use.
func Claim(n int) (base int, release func() error, err error) {
	blocks := (n + blockSize - 1) / blockSize
	bases := (end-lowest)/blockSize - blocks + 1
	if n < 1 || bases < 1 {
		return 0, nil, fmt.Errorf("claim %d ports: 1 to %d can be claimed", n, end-lowest)
	}
	start := rand.IntN(bases)
	for i := range bases {
		base := lowest + blockSize*((start+i)%bases)
		held, err := hold(base, blocks)
		if err == nil {
			err = free(base, n)
		}
		if err == nil {
			return base, func() error { return closeAll(held) }, nil
		}
		if err := closeAll(held); err != nil {
			return 0, nil, err
		}
	}
	return 0, nil, fmt.Errorf("claim %d ports: between %d and %d so many are not free in a row", n, lowest, end)
}

// Addr is a port's address on loopback.
func Addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// hold listens on the last port of each block. It returns the listeners that it has also with an error.
func hold(base, blocks int) (held []net.Listener, err error) {
	for i := range blocks {
		l, err := net.Listen("tcp", Addr(base+i*blockSize+blockSize-1))
		if err != nil {
			return held, err
		}
		held = append(held, l)
	}
	return held, nil
}

// free reports an error when one of the ports is in use, by a program that claims none.
func free(base, n int) error {
	for i := range n {
		if i%blockSize == blockSize-1 {
			continue // held
		}
		l, err := net.Listen("tcp", Addr(base+i))
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

func closeAll(held []net.Listener) error {
	var errs []error
	for _, l := range held {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
