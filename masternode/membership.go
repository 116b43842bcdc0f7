package masternode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// answerTime is how long a master may take to say who it is before it counts as not there.
const answerTime = time.Second

// Announce takes a master's word of who it is. One that is new becomes a member, at first without a vote; one that has moved gets its new
// addresses; one at the address of another takes its place: the other one's disk was wiped, or its machine replaced. Any master takes an
// announcement and brings it to the leader. To announce the same again changes nothing. Errors: ErrBadRequest, ErrOtherGroup,
// ErrTooFewMasters, ErrNoLeader, masterfsm.ErrMasterRemoved.
func (n *Node) Announce(ctx context.Context, m wire.Member) (wire.Announced, error) {
	m.URL = strings.TrimRight(m.URL, "/")
	if err := checkAnnouncement(m); err != nil {
		return wire.Announced{}, err
	}
	if err := n.ofThisGroup(m); err != nil {
		return wire.Announced{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		changed := n.cfg.Ledger.Changed()
		answer, err := n.tryAnnounce(ctx, m)
		if err == nil || !mayRegisterAgain(err) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return wire.Announced{}, fmt.Errorf("%w within %v: %w", ErrNoLeader, leaderWait, err)
		case <-changed:
		case <-time.After(retryPause):
		}
	}
}

func checkAnnouncement(m wire.Member) error {
	u, err := url.Parse(m.URL)
	host, port, splitErr := net.SplitHostPort(m.Raft)
	switch {
	case m.ID == "" || len(m.ID) > 255 || strings.Contains(m.ID, "@"):
		return fmt.Errorf("%w: %q is no id of a master", ErrBadRequest, m.ID)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%w: %q is no address of a master; one is written http://host:port", ErrBadRequest, m.URL)
	case splitErr != nil || host == "" || port == "" || port == "0":
		return fmt.Errorf("%w: %q is no raft address; one is written host:port", ErrBadRequest, m.Raft)
	}
	return nil
}

// ofThisGroup holds a master's group against this one's.
func (n *Node) ofThisGroup(m wire.Member) error {
	own := n.Member()
	switch {
	case own.Group == "":
		return fmt.Errorf("%w: this master is new itself", ErrNoLeader)
	case m.Group != "" && m.Group != own.Group:
		return fmt.Errorf("%w: master %s at %s is of group %s, this is group %s", ErrOtherGroup, m.ID, m.URL, m.Group, own.Group)
	case m.Group == own.Group && m.Epoch < own.Epoch:
		return fmt.Errorf("%w: the group was recovered without it: it is at epoch %d, the group at %d", masterfsm.ErrMasterRemoved, m.Epoch, own.Epoch)
	}
	n.heardOf(m)
	return nil
}

func (n *Node) tryAnnounce(ctx context.Context, m wire.Member) (wire.Announced, error) {
	leader, url := n.leader()
	switch {
	case n.leadership.Load() != nil:
		return n.admit(ctx, m)
	case leader == "" || url == "" || leader == n.cfg.Member.ID:
		return wire.Announced{}, fmt.Errorf("%w: the leader is not known yet", ErrNotLeader)
	}
	ctx, release := n.underLeader(ctx, leader)
	defer release()
	return n.cfg.Masters.Announce(ctx, url, m)
}

// admit runs on the leader. The table comes first: what it refuses raft never hears of.
func (n *Node) admit(ctx context.Context, m wire.Member) (wire.Announced, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	own := n.Member()
	var v masterfsm.View
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	if slices.Contains(v.RemovedMasters, m.ID) {
		return wire.Announced{}, fmt.Errorf("%w: %s", masterfsm.ErrMasterRemoved, m.ID)
	}
	answer := wire.Announced{Group: own.Group, Epoch: own.Epoch}
	members := n.cfg.Membership.Members()
	if memberOf(members, v, m) {
		return answer, nil
	}
	if err := n.answersAs(ctx, m); err != nil {
		return wire.Announced{}, err
	}
	for _, other := range members {
		other.URL = urlOf(v, other.ID)
		if other.ID == m.ID || other.URL != m.URL && other.Raft != m.Raft {
			continue
		}
		if other.ID == own.ID {
			return wire.Announced{}, fmt.Errorf("%w: %s and %s are this master's own addresses", ErrBadRequest, m.URL, m.Raft)
		}
		n.log.Warn("another master is at the address of one: it takes its place", "url", m.URL, "raft", m.Raft, "old", other.ID, "new", m.ID)
		if err := n.remove(ctx, members, v, other, false); err != nil {
			return wire.Announced{}, err
		}
	}
	if _, err := n.propose(ctx, &masterfsm.AdmitMaster{ID: m.ID, URL: m.URL, Raft: m.Raft, Time: n.now()}); err != nil {
		return wire.Announced{}, err
	}
	if err := n.cfg.Membership.AddMember(ctx, m); err != nil {
		return wire.Announced{}, err
	}
	n.log.Info("master let in", "id", m.ID, "url", m.URL, "raft", m.Raft)
	return answer, nil
}

// memberOf reports whether raft and the table both have a master with these addresses.
func memberOf(members []wire.Master, v masterfsm.View, m wire.Member) bool {
	return urlOf(v, m.ID) == m.URL && slices.ContainsFunc(v.Masters, func(t masterfsm.Master) bool { return t.ID == m.ID && t.Raft == m.Raft }) &&
		slices.ContainsFunc(members, func(r wire.Master) bool { return r.ID == m.ID && r.Raft == m.Raft })
}

func urlOf(v masterfsm.View, id string) string {
	for i := range v.Masters {
		if v.Masters[i].ID == id {
			return v.Masters[i].URL
		}
	}
	return ""
}

// answersAs asks at a master's address whether it is there: an announcement by itself is only somebody's word.
func (n *Node) answersAs(ctx context.Context, m wire.Member) error {
	if m.ID == n.cfg.Member.ID {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	there, err := n.cfg.Masters.Member(ctx, m.URL)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the leader cannot reach the master at the address that it gives, %s: %w", ErrBadRequest, m.URL, err)
	case there.ID != m.ID || there.Raft != m.Raft:
		return fmt.Errorf("%w: at %s answers master %s with raft address %s, not %s with %s", ErrBadRequest, m.URL, there.ID, there.Raft, m.ID, m.Raft)
	}
	return nil
}

// RemoveMaster takes a master, named by its id or address, out of the group for good. This master must lead: one that is to remove itself
// hands the leadership over first, and the next leader does it. Without force it is refused where the masters that remain could not
// elect a leader. Errors: ErrNotLeader, ErrNotFound, ErrTooFewMasters.
func (n *Node) RemoveMaster(ctx context.Context, idOrURL string, force bool) error {
	if n.leadership.Load() == nil {
		return ErrNotLeader
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	var v masterfsm.View
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	members := n.cfg.Membership.Members()
	target, err := findMaster(members, v, idOrURL)
	if err != nil {
		return err
	}
	return n.remove(ctx, members, v, target, force)
}

// findMaster is the member of an id or address. The error wraps [ErrNotFound].
func findMaster(members []wire.Master, v masterfsm.View, idOrURL string) (wire.Master, error) {
	address := strings.TrimRight(idOrURL, "/")
	for _, m := range members {
		m.URL = urlOf(v, m.ID)
		if m.ID == idOrURL || m.Raft == address || m.URL != "" && (m.URL == address || m.URL == "http://"+address || m.URL == "https://"+address) {
			return m, nil
		}
	}
	return wire.Master{}, fmt.Errorf("%w: no master has the id or address %q", ErrNotFound, idOrURL)
}

// remove runs on the leader, one at a time. The table has the last word: a leader that comes after finds there who is to go.
func (n *Node) remove(ctx context.Context, members []wire.Master, v masterfsm.View, target wire.Master, force bool) error {
	if err := n.enoughWithout(ctx, members, v, target); err != nil && (!force || len(members) == 1) {
		return err
	}
	if target.ID == n.cfg.Member.ID {
		if err := n.cfg.Membership.TransferLeadership(""); err != nil {
			return fmt.Errorf("the leader cannot hand over before it goes: %w", err)
		}
		return fmt.Errorf("%w: it has handed over, since it is the one to be removed", ErrNotLeader)
	}
	if _, err := n.propose(ctx, &masterfsm.RemoveMaster{ID: target.ID, Time: n.now()}); err != nil {
		return err
	}
	n.log.Warn("master taken out for good", "id", target.ID, "url", target.URL, "forced", force)
	return n.cfg.Membership.RemoveMember(ctx, target.ID)
}

// enoughWithout asks the masters that would remain without one whether they are there: a majority of them is needed to go on.
func (n *Node) enoughWithout(ctx context.Context, members []wire.Master, v masterfsm.View, target wire.Master) error {
	if !target.Voter {
		return nil
	}
	var rest []wire.Master
	for _, m := range members {
		if m.Voter && m.ID != target.ID {
			rest = append(rest, m)
		}
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: %s is the only one", ErrTooFewMasters, target.ID)
	}
	var there atomic.Int64
	var asking errgroup.Group
	for _, m := range rest {
		asking.Go(func() error {
			if n.answersAs(ctx, wire.Member{ID: m.ID, URL: urlOf(v, m.ID), Raft: m.Raft}) == nil {
				there.Add(1)
			}
			return nil
		})
	}
	_ = asking.Wait() // who does not answer is not there
	if need := len(rest)/2 + 1; int(there.Load()) < need {
		return fmt.Errorf("%w: without %s there are %d masters, of which %d answer and %d are needed to elect a leader",
			ErrTooFewMasters, target.ID, len(rest), there.Load(), need)
	}
	return nil
}

// TransferLeadership has another master lead, one that is named by its id or address, or whichever has most of the log. It returns the
// id of the new leader once this master knows it. Errors: ErrNotLeader, ErrNotFound, ErrNotVoter, ErrNoLeader.
func (n *Node) TransferLeadership(ctx context.Context, to string) (string, error) {
	if n.leadership.Load() == nil {
		return "", ErrNotLeader
	}
	if to != "" {
		var v masterfsm.View
		n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
		target, err := findMaster(n.cfg.Membership.Members(), v, to)
		if err != nil {
			return "", err
		}
		if to = target.ID; to == n.cfg.Member.ID {
			return to, nil
		}
		if !target.Voter {
			return "", fmt.Errorf("%w: %s is still catching up", ErrNotVoter, to)
		}
	}
	if err := n.cfg.Membership.TransferLeadership(to); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotVoter, err)
	}
	for {
		changed := n.cfg.Ledger.Changed()
		if id, url := n.leader(); id != "" && id != n.cfg.Member.ID && url != "" {
			return id, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w after the leadership was handed over: %w", ErrNoLeader, context.Cause(ctx))
		case <-changed:
		}
	}
}

// heardOf holds another master's epoch against this one's: a group that was recovered without this master has a higher one, and this
// master's log is of no use any more.
func (n *Node) heardOf(m wire.Member) {
	own := n.Member()
	if own.Group == "" || m.Group != own.Group || m.Epoch <= own.Epoch {
		return
	}
	n.end(fmt.Errorf("%w: the group was recovered without this master: it is at epoch %d, the group at %d as %s tells",
		ErrRemoved, own.Epoch, m.Epoch, m.URL))
}

// end has Run return an error; the first counts.
func (n *Node) end(err error) {
	select {
	case n.over <- err:
	default:
	}
}

// errNothingToAsk: there is no other master to announce this one to.
var errNothingToAsk = errors.New("no other master is known")
