// Package freeports reserves ports on loopback for the servers of tests. A server that listens on port 0 does not need
// it. A server needs it when it stops and comes back on the same port, or when its address must be known before it
// runs: while no server listens on the port, an outgoing connection or another test may take it.
//
// Claim therefore hands out ports below the range from which the kernel takes ports for outgoing connections and for
// listeners on port 0. It holds one port of each block with a listener until the block is released, so two callers
// never have the same block, not even in two processes.
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
	// lowest and end bound the ports of all blocks. The kernel's range begins at 32768 on Linux, and higher elsewhere.
	lowest, end = 3_000, 32_000
)

// Claim reserves the n ports from base on until release is called. It reserves whole blocks of 100 ports. The last port
// of each block holds the reservation: the caller must not use it.
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
	return 0, nil, fmt.Errorf("claim %d ports: no free block of ports between %d and %d (stop programs that listen "+
		"there)", n, lowest, end)
}

// Addr is a port's address on loopback.
func Addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// hold listens on the last port of each block. With an error it returns the listeners that it opened before.
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
