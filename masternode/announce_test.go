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

	"github.com/chainstore/chainstore/internal/joining"
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

// keyedLedger returns the ledger of a follower whose table, at protocol level 7, has the keys of m1, the leader, and
// m2.
func keyedLedger(t *testing.T) masterstest.Following {
	t.Helper()
	ledger := masterstest.NewLedger(t)
	admit := func(id string) *masterfsm.AdmitMaster {
		return &masterfsm.AdmitMaster{ID: id, URL: "http://" + id, Raft: id + ":1", Key: keyOf(id).Public(), Start: 5,
			Founder: true, Time: 1}
	}
	for _, c := range []masterfsm.Command{
		&masterfsm.BeginTerm{Term: 1, Member: "m1", URL: "http://m1", Time: 1, Group: "cs-test",
			Settings: masterfsm.DefaultSettings()},
		&masterfsm.RaiseLevel{Level: masterfsm.ProtocolLevel, Time: 1}, admit("m1"), admit("m2"),
	} {
		if _, err := ledger.State.Apply(ledger.Encode(c)); err != nil {
			t.Fatalf("%T: %v", c, err)
		}
	}
	return masterstest.Following{Ledger: ledger}
}

// TestUnprovenRemoval checks that only a master with the key of a member can say that this master was removed. The
// cluster token is not enough.
func TestUnprovenRemoval(t *testing.T) {
	signed := func(group string, epoch uint64, by, key, removed string, before ...uint64) error {
		before = append(before, 1)
		return &wire.RemovedError{Master: by, Epoch: epoch, Err: masterfsm.ErrMasterRemoved,
			Signature: keyOf(key).Sign(joining.Removal(group, epoch, by, removed, before[0]))}
	}
	inAnotherEpoch := signed("cs-test", 1, "m1", "m1", "m2").(*wire.RemovedError)
	inAnotherEpoch.Epoch = 2
	for name, c := range map[string]struct {
		err  error
		ends bool
	}{
		"by a member":                    {signed("cs-test", 1, "m1", "m1", "m2"), true},
		"by a member, after a recovery":  {signed("cs-test", 2, "m1", "m1", "m2"), true},
		"not signed":                     {wire.ErrRemoved, false},
		"with another key":               {signed("cs-test", 1, "m1", "thief", "m2"), false},
		"by a master of no table":        {signed("cs-test", 1, "m9", "m9", "m2"), false},
		"by itself":                      {signed("cs-test", 1, "m2", "m2", "m2"), false},
		"of another master":              {signed("cs-test", 1, "m1", "m1", "m3"), false},
		"of another group":               {signed("cs-other", 1, "m1", "m1", "m2"), false},
		"of before a recovery":           {signed("cs-test", 0, "m1", "m1", "m2"), false},
		"with the signature of an epoch": {inAnotherEpoch, false},
		"of its own id before":           {signed("cs-test", 1, "m1", "m1", "m2", 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				says := &announcee{Follower: masterstest.Follower{Self: member("m1")}, err: c.err}
				ledger := keyedLedger(t)
				members, ended, stop := announcer(t, masterAt("http://m1", says), "cs-test", func(cfg *Config) {
					cfg.Ledger, cfg.Key, cfg.Boot, cfg.Peers = ledger, keyOf("m2"), 6, []string{"http://m1"}
				})
				time.Sleep(10 * time.Second)
				if len(says.announced()) == 0 {
					t.Fatal("it has announced itself to nobody")
				}
				if !c.ends {
					stop()
				}
				if err := <-ended; errors.Is(err, wire.ErrRemoved) != c.ends || members.Retired != c.ends {
					t.Errorf("it ended with %v, retired %v", err, members.Retired)
				}
				stop()
			})
		})
	}
}

// TestUnprovenAddress checks that a master takes the raft address of another one from that one only: the answer is
// signed with the key of the member, in no older start than the table knows.
func TestUnprovenAddress(t *testing.T) {
	proven := func(start uint64, key string) *wire.JoinProof {
		m := member("m1")
		m.Raft = "moved:1"
		return joining.Prove("cs-test", m, start, keyOf(key), joining.Key{})
	}
	for name, c := range map[string]struct {
		proof *wire.JoinProof
		met   bool
	}{
		"the member":      {proven(6, "m1"), true},
		"not signed":      {nil, false},
		"another key":     {proven(6, "thief"), false},
		"an older start":  {proven(4, "m1"), false},
		"another address": {joining.Prove("cs-test", member("m1"), 6, keyOf("m1"), joining.Key{}), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				there := &announcee{Follower: masterstest.Follower{Self: member("m1")}, err: wire.ErrNoLeader}
				there.Self.Raft, there.Self.Proof = "moved:1", c.proof
				ledger := keyedLedger(t)
				members, ended, stop := announcer(t, masterAt("http://m1", there), "cs-test", func(cfg *Config) {
					cfg.Ledger, cfg.Key, cfg.Boot, cfg.Peers = ledger, keyOf("m2"), 6, []string{"http://m1"}
				})
				time.Sleep(5 * time.Second)
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				members.Mu.Lock()
				defer members.Mu.Unlock()
				if len(there.announced()) == 0 || (len(members.Met) > 0) != c.met {
					t.Errorf("%d announcements, it has met %+v", len(there.announced()), members.Met)
				}
			})
		})
	}
}

// TestAnswersAreSigned checks that a master signs what it says of itself, and that another one was removed, and whose
// signatures of forwarded requests count.
func TestAnswersAreSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newGroup(t)
		defer r.stop()
		itself := r.Itself()
		if err := joining.Verify("cs-test", itself); err != nil || itself.Proof.Key != keyOf("m1").Public() ||
			itself.Proof.Ticket != nil {
			t.Errorf("it answers %+v: %v", itself, err)
		}
		if err := r.RemoveMaster(t.Context(), "http://m3", false); err != nil {
			t.Fatal(err)
		}
		_, err := r.Announce(t.Context(), member("m3"), false)
		removed, ok := errors.AsType[*wire.RemovedError](err)
		if !errors.Is(err, wire.ErrRemoved) || !ok || removed.Master != "m1" || !joining.Signed(keyOf("m1").Public(),
			joining.Removal("cs-test", removed.Epoch, "m1", "m3", member("m3").Epoch), removed.Signature) {
			t.Errorf("the refusal is %+v", err)
		}
		// What it is told of another master is not signed, and of one of before a recovery only for that epoch.
		early := member("m2")
		early.Epoch = 0
		_, err = r.Announce(t.Context(), early, false)
		removed, ok = errors.AsType[*wire.RemovedError](err)
		if !ok || joining.Signed(keyOf("m1").Public(),
			joining.Removal("cs-test", removed.Epoch, "m1", "m2", member("m2").Epoch), removed.Signature) {
			t.Errorf("of a member with the epoch before it says %+v", err)
		}
		message := []byte("a message")
		for name, c := range map[string]struct {
			member, signature string
			want              bool
		}{
			"the member":                {"m2", keyOf("m2").Sign(message), true},
			"another member":            {"m2", keyOf("m1").Sign(message), false},
			"no signature":              {"m2", "", false},
			"another message":           {"m2", keyOf("m2").Sign([]byte("another message")), false},
			"a removed member":          {"m3", keyOf("m3").Sign(message), false},
			"one that is in no table":   {"m9", keyOf("m9").Sign(message), false},
			"no base64, but the member": {"m2", "?", false},
		} {
			if got := r.Signed(c.member, message, c.signature); got != c.want {
				t.Errorf("%s: %v", name, got)
			}
		}
		if signature := r.Sign(message); !joining.Signed(keyOf("m1").Public(), message, signature) {
			t.Errorf("it signs with %q", signature)
		}
	})
}
