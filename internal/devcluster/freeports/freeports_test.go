package freeports

import (
	"net"
	"testing"
)

func claim(t *testing.T, n int) (base int, release func()) {
	t.Helper()
	base, free, err := Claim(n)
	if err != nil {
		t.Fatal(err)
	}
	return base, func() {
		if err := free(); err != nil {
			t.Error(err)
		}
	}
}

// TestClaimsDoNotOverlap checks that claims do not overlap, whatever their sizes, although no server listens on the
// claimed ports.
func TestClaimsDoNotOverlap(t *testing.T) {
	owner := map[int]int{}
	for i, n := range []int{1, 99, 100, 101, 400, 1, 250, 1, 1, 1, 1000, 1, 100} {
		base, release := claim(t, n)
		defer release()
		for port := base; port < base+n; port++ {
			if other, taken := owner[port]; taken {
				t.Fatalf("port %d is in claim %d and in claim %d", port, other, i)
			}
			owner[port] = i
		}
		if base < lowest || base+n > end {
			t.Errorf("claim of %d ports from %d on", n, base)
		}
	}
}

// TestClaimIsHeld checks that no other caller gets a block of ports before it is released. The kernel refuses the
// listener, also between processes.
func TestClaimIsHeld(t *testing.T) {
	base, release := claim(t, 250)
	for i := range 3 {
		if held, err := hold(base+i*blockSize, 1); err == nil {
			t.Error("block", i, "was claimed twice", closeAll(held))
		}
	}
	release()
	held, err := hold(base, 3)
	if err != nil {
		t.Errorf("after its release: %v", err)
	}
	if err := closeAll(held); err != nil {
		t.Error(err)
	}
}

// TestPortsInUseAreNotFree checks that a port on which a program without a claim listens is not free.
func TestPortsInUseAreNotFree(t *testing.T) {
	base, release := claim(t, 50)
	l, err := net.Listen("tcp", Addr(base+49))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	release()
	if err := free(base, 50); err == nil {
		t.Error("a port that is in use is free")
	}
	if err := free(base, 49); err != nil {
		t.Errorf("the ports below it: %v", err)
	}
}

func TestClaimRefuses(t *testing.T) {
	for _, n := range []int{-1, 0, end - lowest + 1} {
		if _, _, err := Claim(n); err == nil {
			t.Errorf("%d ports were claimed", n)
		}
	}
}
