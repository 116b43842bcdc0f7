package masternode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// swaying is a ledger of a master that believes in whichever leader a test names.
type swaying struct {
	*masterstest.Ledger
	mu     sync.Mutex // guards leader
	leader string
}

func (l *swaying) Leader() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

func (l *swaying) elect(leader string) {
	l.mu.Lock()
	l.leader = leader
	l.mu.Unlock()
	l.Ledger.Mu.Lock()
	defer l.Ledger.Mu.Unlock()
	l.Wake()
}

// A call on a leader that hangs ends when another is believed in, and not before.
func TestUnderLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := &swaying{Ledger: masterstest.NewLedger(t), leader: "m2"}
		n := &Node{cfg: Config{Ledger: ledger, Member: wire.Member{ID: "m1"}}}
		ctx, release := n.underLeader(t.Context(), "m2")
		ledger.elect("m2") // a change that is none of the leader
		synctest.Wait()
		if err := ctx.Err(); err != nil {
			t.Fatalf("ended while the leader was believed in: %v", err)
		}
		time.Sleep(time.Hour)
		ledger.elect("")
		synctest.Wait()
		if err := context.Cause(ctx); !errors.Is(err, errOtherLeader) {
			t.Fatalf("the leader is gone: %v", err)
		}
		release()

		// Believed in no more from the start, and released while all is well.
		ctx, release = n.underLeader(t.Context(), "m2")
		<-ctx.Done()
		release()
		ledger.elect("m3")
		ctx, release = n.underLeader(t.Context(), "m3")
		release()
		if err := context.Cause(ctx); fmt.Sprint(err) != context.Canceled.Error() {
			t.Errorf("released: %v", err)
		}
	})
}
