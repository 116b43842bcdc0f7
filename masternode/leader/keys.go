package leader

import (
	"context"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
)

// foundLog adds the log's first key. If another leader was quicker, its key stays.
func (l *leadership) foundLog(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key, err := l.cfg.Log.FirstKey(view.Group)
		if err == nil {
			_, err = l.AddLogKey(ctx, key, view.Group.ID, true)
		}
		return nil, err
	}
}

// addGivenKey adds the key that this master was given.
func (l *leadership) addGivenKey(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		_, err := l.AddLogKey(ctx, l.cfg.Log.Key, view.Group.ID, false)
		return nil, err
	}
}

// AddLogKey seals a key and commits it.
func (l *Leader) AddLogKey(ctx context.Context, key *signing.Key, group string, first bool) (*masterfsm.LogKey, error) {
	sealed, err := l.cfg.Log.Sealer(group).Seal(key)
	if err != nil {
		return nil, err
	}
	added, err := ProposeFor[*masterfsm.LogKey](ctx, l, &masterfsm.AddLogKey{
		Origin: key.Origin(), Public: key.Public(), Sealed: sealed, First: first, Time: l.Now(),
	})
	if err == nil {
		l.log.Info("the log has a key that signs", "key", key.VerifierKey(), "first", first)
	}
	return added, err
}
