package masternode

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// announcee is a master that answers announcements with an error, or with its group.
type announcee struct {
	masterstest.Follower
	err error

	mu  sync.Mutex // guards got
	got []wire.Member
}

func (a *announcee) Announce(_ context.Context, m wire.Member, forwarded bool) (wire.Announced, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if forwarded {
		return wire.Announced{}, errors.New("no master has forwarded it")
	}
	a.got = append(a.got, m)
	return wire.Announced{Group: a.Self.Group, Epoch: a.Self.Epoch}, a.err
}

// announced returns the announcements so far.
func (a *announcee) announced() []wire.Member {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]wire.Member(nil), a.got...)
}

// announcer is a running master m2 that never leads. Its membership is of a group, or new with group "".
func announcer(t *testing.T, masters Masters, group string, change func(*Config)) (
	members *masterstest.Membership, ended <-chan error, stop func(),
) {
	t.Helper()
	members = masterstest.NewMembership()
	members.Self = member("m2")
	if members.Self.Group = group; group == "" {
		members.Self.Epoch = 0
	}
	cfg := Config{
		Member: wire.Member{ID: "m2", URL: "http://m2"}, Boot: 1,
		Ledger: masterstest.Following{Ledger: masterstest.NewLedger(t)}, Membership: members,
		Masters: masters, Workers: masterstest.NewWorkers(t, 0), Limits: DefaultLimits(),
		Options: leader.Options{
			Settings: masterfsm.DefaultSettings(), Log: signing.LogConfig{Secret: signing.Fixed("cluster token")},
		},
		Logger: hclog.NewNullLogger(),
	}
	change(&cfg)
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- n.Run(ctx) }()
	return members, result, cancel
}

// TestNewMasterJoins checks that a new master asks the masters that it was told to join, one after the other, and takes
// the group of the first one that admits it. It does not ask one that is new itself. Its announcement has no field that
// earlier masters refuse.
func TestNewMasterJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fresh := &announcee{Follower: masterstest.Follower{Self: wire.Member{ID: "m3", URL: "http://m3"}}}
		full := &announcee{Follower: masterstest.Follower{Self: member("m4")}, err: wire.ErrTooFewMasters}
		admits := &announcee{Follower: masterstest.Follower{Self: member("m1")}}
		masters := masterstest.NewMasters()
		masters.Set("http://m3", fresh)
		masters.Set("http://m4", full)
		masters.Set("http://m1", admits)
		members, ended, stop := announcer(t, masters, "", func(c *Config) {
			c.Join = []string{"http://gone", "http://m3", "http://m4", "http://m1"}
		})
		time.Sleep(announceEvery + time.Millisecond)
		want := wire.Member{ID: "m2", URL: "http://m2", Raft: "m2:1"}
		if got := admits.announced(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
			t.Errorf("announced %+v, want %+v", got, want)
		}
		if got := members.Member(); got.Group != "cs-test" || got.Epoch != 1 {
			t.Errorf("it is %+v", got)
		}
		if len(fresh.announced()) != 0 || len(full.announced()) != 1 {
			t.Errorf("%d announcements to a new master, %d to one that refuses", len(fresh.announced()),
				len(full.announced()))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestAdoptedMasterSendsItsTicket checks that a new master that the founder has adopted, and that the table does not
// have, announces itself with its ticket.
func TestAdoptedMasterSendsItsTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		self := member("m1")
		self.Level = masterfsm.ProtocolLevel
		admits := &announcee{Follower: masterstest.Follower{Self: self}}
		_, ended, stop := announcer(t, masterAt("http://m1", admits), "cs-test", func(c *Config) {
			c.Join, c.Key, c.Ticket = []string{"http://m1"}, keyOf("m2"), keyOf("ticket")
		})
		time.Sleep(announceEvery + time.Millisecond)
		if got := admits.announced(); len(got) == 0 || got[0].Proof == nil || got[0].Proof.Ticket == nil ||
			got[0].Proof.Ticket.Key != keyOf("ticket").Public() {
			t.Errorf("announced %+v", got)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestAnnouncementIsRefused checks which refusals end a master. After another one it waits before it announces itself
// again.
func TestAnnouncementIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		ends    error
		retired bool
		others  int // announcements to the second master within ten seconds, at least
	}{
		"removed":         {wire.ErrRemoved, wire.ErrRemoved, true, 0},
		"another group":   {wire.ErrOtherGroup, wire.ErrOtherGroup, false, 0},
		"too few masters": {wire.ErrTooFewMasters, nil, false, 3},
		"no leader":       {wire.ErrNoLeader, nil, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := &announcee{Follower: masterstest.Follower{Self: member("m1")}, err: c.err}
				second := &announcee{Follower: masterstest.Follower{Self: member("m3")}, err: wire.ErrTooFewMasters}
				masters := masterstest.NewMasters()
				masters.Set("http://m1", first)
				masters.Set("http://m3", second)
				members, ended, stop := announcer(t, masters, "cs-test", func(cfg *Config) {
					cfg.Peers = []string{"http://m1", "http://m3", "http://m2"}
				})
				time.Sleep(10 * time.Second)
				if got := len(second.announced()); got < c.others || got > 2*c.others {
					t.Errorf("%d announcements to the second master, want about %d", got, c.others)
				}
				if c.ends == nil {
					stop()
				}
				if err := <-ended; !errors.Is(err, c.ends) || (err == nil) != (c.ends == nil) {
					t.Errorf("it ended with %v, want %v", err, c.ends)
				}
				if members.Retired != c.retired {
					t.Errorf("retired: %v", members.Retired)
				}
				stop()
			})
		})
	}
}
