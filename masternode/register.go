package masternode

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// Register enters a worker into the table. Any master takes a registration and brings it to the leader; forwarded tells that it
// came from another master already. A worker that is known, and says nothing new, costs no log entry, so workers may
// register as often as they like. Errors: ErrBadRequest, ErrNoLeader, masterfsm.ErrBadCommand,
// masterfsm.ErrRemoved.
func (n *Node) Register(ctx context.Context, r wire.Registration, forwarded bool) (wire.Registered, error) {
	if err := checkRegistration(r); err != nil {
		return wire.Registered{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		changed := n.cfg.Ledger.Changed()
		registered, err := n.tryRegister(ctx, r, forwarded)
		if err == nil || forwarded || !mayRegisterAgain(err) {
			return registered, err
		}
		select {
		case <-ctx.Done():
			return wire.Registered{}, fmt.Errorf("%w within %v: %w", ErrNoLeader, leaderWait, err)
		case <-changed:
		case <-time.After(retryPause):
		}
	}
}

// mayRegisterAgain tells the failures that the next try, or the next leader, may mend. To register twice does no harm.
func mayRegisterAgain(err error) bool {
	return errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, wire.ErrNoAnswer)
}

func checkRegistration(r wire.Registration) error {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return fmt.Errorf("%w: %q is no address of a worker; one is written http://host:port", ErrBadRequest, r.URL)
	case r.Role != string(masterfsm.RoleStorage) && r.Role != string(masterfsm.RoleMiner):
		return fmt.Errorf("%w: role %q is neither storage nor miner", ErrBadRequest, r.Role)
	case r.MasterToken == "":
		return fmt.Errorf("%w: a worker must name the token by which it will know a master", ErrBadRequest)
	}
	return nil
}

func (n *Node) tryRegister(ctx context.Context, r wire.Registration, forwarded bool) (wire.Registered, error) {
	leader, url := n.leader()
	switch {
	case n.leadership.Load() != nil:
		return n.register(ctx, r)
	case forwarded || leader == "" || url == "" || leader == n.cfg.Member.ID:
		return wire.Registered{}, fmt.Errorf("%w: the leader is not known yet", ErrNotLeader)
	}
	ctx, release := n.underLeader(ctx, leader)
	defer release()
	return n.cfg.Masters.Register(ctx, url, r)
}

// register runs on the leader.
func (n *Node) register(ctx context.Context, r wire.Registration) (wire.Registered, error) {
	r.URL = strings.TrimRight(r.URL, "/")
	var v masterfsm.View
	var removed bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v = s.View()
		removed = r.ID != "" && slices.Contains(s.Story().Removed, r.ID)
	})
	answer := wire.Registered{ID: r.ID, AccessToken: r.AccessToken, Group: v.Group.ID}
	hash := chain.Hash(sha256.Sum256([]byte(r.AccessToken)))
	known, upToDate := false, false
	switch masterfsm.Role(r.Role) {
	case masterfsm.RoleStorage:
		for i := range v.Storages {
			if s := &v.Storages[i]; s.ID == r.ID && sameHash(s.AccessHash, hash) {
				known = true
				upToDate = s.URL == r.URL && s.MasterToken == r.MasterToken && s.Boot == r.Boot
			}
		}
	case masterfsm.RoleMiner:
		for i := range v.Miners {
			if m := &v.Miners[i]; m.ID == r.ID && sameHash(m.AccessHash, hash) {
				known = true
				upToDate = m.URL == r.URL && m.MasterToken == r.MasterToken
			}
		}
	}
	if upToDate {
		return answer, nil
	}
	if removed {
		return wire.Registered{}, fmt.Errorf("%w: %s", masterfsm.ErrRemoved, r.ID)
	}
	if !known {
		answer.ID = r.Role[:1] + "-" + strings.ToLower(rand.Text()[:12])
		answer.AccessToken = rand.Text()
		hash = sha256.Sum256([]byte(answer.AccessToken))
	}
	_, err := n.propose(ctx, &masterfsm.Register{
		Role: masterfsm.Role(r.Role), ID: answer.ID, URL: r.URL, MasterToken: r.MasterToken, AccessHash: hash, Boot: r.Boot,
		Height: r.Height, Hash: r.Hash, Unclean: r.Unclean, Time: n.now(),
	})
	if err != nil {
		return wire.Registered{}, err
	}
	n.log.Info("worker registered", "role", r.Role, "id", answer.ID, "url", r.URL, "height", r.Height)
	return answer, nil
}

func sameHash(a, b chain.Hash) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
