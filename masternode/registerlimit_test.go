package masternode

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// TestRegisterLimit checks that a worker which changes its address again and again, and a source of new workers, are
// refused after a burst: each change leaves a record for good. Registrations that change no address are free.
func TestRegisterLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil)
		defer r.stop()
		time.Sleep(time.Second)
		from := func(address string) context.Context {
			return origin.With(t.Context(), trail.Origin{
				Actor: trail.Actor{Kind: trail.ByNode}, Source: trail.Source{Address: address},
			})
		}
		records := func() (n uint64) {
			r.ledger.Read(func(s *masterfsm.State) { n = s.NextIndex() })
			return n
		}
		miner := wire.Registration{Role: "miner", URL: "http://new", MasterToken: "x", Boot: "b", Lists: true}
		answer, err := r.Register(from("192.0.2.1"), miner, false)
		if err != nil {
			t.Fatal(err)
		}
		miner.ID, miner.AccessToken = answer.ID, answer.AccessToken
		move := func(i int) error {
			miner.URL = fmt.Sprint("http://new-", i%2)
			_, err := r.Register(from(fmt.Sprint("192.0.2.", i)), miner, false)
			return err
		}
		for i := range addressBurst {
			if err := move(i); err != nil {
				t.Fatalf("address %d: %v", i, err)
			}
		}
		before := records()
		for i := range 5 {
			url := miner.URL
			if err := move(addressBurst + 2*i); !errors.Is(err, wire.ErrTooManyRequests) {
				t.Fatalf("after the burst: %v", err)
			}
			miner.URL = url
			miner.Previous, miner.Boot = miner.Boot, fmt.Sprint("b", i)
			if _, err := r.Register(t.Context(), miner, false); err != nil {
				t.Fatalf("the same address: %v", err)
			}
		}
		if after := records(); after != before {
			t.Errorf("%d leaves after %d", after, before)
		}
		time.Sleep(addressPause)
		if err := move(addressBurst); err != nil {
			t.Errorf("after the pause: %v", err)
		}

		fresh := func(source string, i int) error {
			_, err := r.Register(from(source), wire.Registration{
				Role: "miner", URL: fmt.Sprint("http://m-", i), MasterToken: "x", Boot: "b",
			}, false)
			return err
		}
		for i := range workerBurst {
			if err := fresh(fmt.Sprintf("2001:db8::%x", i), i); err != nil {
				t.Fatalf("new worker %d: %v", i, err)
			}
		}
		if err := fresh("2001:db8::ffff", workerBurst); !errors.Is(err, wire.ErrTooManyRequests) {
			t.Errorf("one more from the network: %v", err)
		}
		if err := fresh("2001:db8:0:1::1", workerBurst); err != nil {
			t.Errorf("another network: %v", err)
		}
	})
}

// TestRegisterLimitForgets checks that the limit remembers a bounded number of entrants.
func TestRegisterLimitForgets(t *testing.T) {
	var l registerLimit
	for i := range 2 * maxEntrants {
		if err := l.take(true, fmt.Sprint(i), "", time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.used) != maxEntrants || l.recent.Len() != maxEntrants {
		t.Errorf("%d and %d entrants", len(l.used), l.recent.Len())
	}
}
