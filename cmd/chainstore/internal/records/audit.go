package records

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// NewAudit is the parent of the commands on the audit trail.
func NewAudit() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "audit",
		Short: "List and follow the audit trail: what administrators and nodes did",
		Long: `List and follow the audit trail: who did what, from where, with which outcome, and what was before and
after. Its records are in the chain, in the project _audit, and are verified like all others. Any admin token may read
them, also one with the role auditor.`,
	}, newAuditListCommand(), newAuditFollowCommand(), newAuditShowCommand())
}

// auditJSON is the usage of --json.
const auditJSON = "print one JSON object a line for each act"

// auditFilter has the conditions that are checked here. A target is a key, so masters look for it.
type auditFilter struct{ act, actor string }

func (f *auditFilter) addFlags(cmd *cobra.Command, target *string) {
	flags := cmd.Flags()
	flags.StringVar(target, "target", "", "only acts on this `target`, such as project/7, admin/2 or group")
	flags.StringVar(&f.act, "act", "", "only this `act`, such as token-create")
	flags.StringVar(&f.actor, "actor", "", "only acts of the actor with this `name`, or of this kind")
	cli.NoFiles(cmd, "target", "actor")
	var names []string
	for _, act := range trail.Acts() {
		names = append(names, act.String())
	}
	cli.MustComplete(cmd.RegisterFlagCompletionFunc("act", cobra.FixedCompletions(names,
		cobra.ShellCompDirectiveNoFileComp)))
}

func (f *auditFilter) matches(e *client.AuditEntry) bool {
	return (f.act == "" || f.act == e.Act.String()) &&
		(f.actor == "" || f.actor == e.Actor.Name || f.actor == e.Actor.Kind.String())
}

func newAuditListCommand() *cobra.Command {
	var query client.ListQuery
	var filter auditFilter
	var since, until string
	var limit uint64
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List acts, the oldest first",
		Long: `List acts in chain order. With --target it is the history of that target.

Write times as 2006-01-02T15:04:05Z, as unix milliseconds, or as a duration before now: 90s, 15m, 24h.`,
		Example: `  chainstore audit list --since 24h
  chainstore audit list --target project/7 --json`,
		PreRunE: func(*cobra.Command, []string) (err error) {
			now := time.Now()
			if query.Since, err = parseTime("since", since, now); err == nil {
				query.Until, err = parseTime("until", until, now)
			}
			return err
		},
	}, cli.Use{Role: cli.AsAdmin, JSON: auditJSON}, func(c *cli.Call) error {
		query.Limit = wire.MaxPage
		return printActs(c, c.Audit(c.Ctx, query), &filter, limit)
	})
	filter.addFlags(cmd, &query.Key)
	flags := cmd.Flags()
	flags.StringVar(&since, "since", "", "only acts of this `time` or later")
	flags.StringVar(&until, "until", "", "only acts before this `time`")
	flags.Uint64Var(&query.From, "from", 0, "begin with this leaf `index`")
	flags.Uint64Var(&limit, "limit", 0, "list at most `N` acts, 0 for all")
	cli.NoFiles(cmd, "since", "until", "from", "limit")
	return cmd
}

func newAuditFollowCommand() *cobra.Command {
	var query client.StreamQuery
	var filter auditFilter
	all := false
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "follow",
		Short: "Print acts as they are done",
		Long: `Print acts as they are done, until it is stopped. Each act is printed exactly once, even if masters
fail. With --all it begins with the first act.`,
		Example: `  chainstore audit follow --json | alert-on-acts`,
	}, cli.Use{Role: cli.AsAdmin, JSON: auditJSON}, func(c *cli.Call) error {
		query.Now = !all
		err := printActs(c, c.FollowAudit(c.Ctx, query), &filter, 0)
		if c.Ctx.Err() != nil && !errors.Is(err, errUnreadable) {
			return nil // stopped by a signal
		}
		return err
	})
	filter.addFlags(cmd, &query.Key)
	cmd.Flags().BoolVar(&all, "all", false, "begin with the first act")
	return cmd
}

func newAuditShowCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "show INDEX",
		Short: "Show one act with all values before and after",
		Args:  cli.ExactArgs("one act", ": 'chainstore audit list' prints their indices"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object"}, func(c *cli.Call) error {
		index, err := parseNumber("INDEX", c.Args[0], 64)
		if err != nil {
			return err
		}
		r, err := c.GetIndex(c.Ctx, index)
		if err != nil {
			return err
		}
		e, err := client.NewAuditEntry(&r)
		if err != nil {
			return fmt.Errorf("the record is not one of the audit trail: %w", err)
		}
		return c.Print(e, actDetails(&e))
	})
}

// errUnreadable is returned at the end of a list in which records could not be read.
var errUnreadable = errors.New("records of the audit trail cannot be read: a newer ChainStore may be needed")

// printActs prints at most limit acts, or all if limit is 0. A record that cannot be read is printed whatever the
// filter, and the error at the end wraps [errUnreadable].
func printActs(
	c *cli.Call, acts iter.Seq2[client.AuditEntry, error], filter *auditFilter, limit uint64,
) (err error) {
	printed, unreadable := uint64(0), 0
	defer func() {
		if unreadable > 0 {
			err = errors.Join(fmt.Errorf("%d %w", unreadable, errUnreadable), err)
		}
	}()
	for e, err := range acts {
		if err != nil {
			return err
		}
		if e.Unreadable != "" {
			unreadable++
		} else if !filter.matches(&e) {
			continue
		}
		text := actText(&e)
		if printed == 0 {
			text = fmt.Sprintf(actFormat, "INDEX", "TIME", "ACTOR", "FROM", "ACT", "TARGET", "CHANGE") + text
		}
		if err := c.Print(e, text); err != nil {
			return err
		}
		if printed++; printed == limit {
			break
		}
	}
	return nil
}

const actFormat = "%-8v  %-25v  %-20v  %-15v  %-28v  %-20v  %v\n"

// actText formats an act as one line of columns.
func actText(e *client.AuditEntry) string {
	if e.Unreadable != "" {
		return fmt.Sprintf(actFormat, e.Index, render.LocalTime(e.Time), "", "", "unreadable", "",
			render.Plain(e.Unreadable))
	}
	act := e.Act.String()
	switch {
	case e.Phase == trail.Ended:
		act += " (" + e.Outcome.String() + ")"
	case e.Phase != trail.Done:
		act += " (" + e.Phase.String() + ")"
	}
	return fmt.Sprintf(actFormat, e.Index, render.LocalTime(e.Time), render.Elide(actorText(&e.Actor), 20),
		render.Plain(e.Source.Address), act, render.Elide(render.Plain(e.Target.Key()), 20), changeText(&e.Record))
}

// actorText names who caused an act: the name where there is one, else the kind.
func actorText(a *trail.Actor) string {
	if a.Name == "" {
		return a.Kind.String()
	}
	return a.Kind.String() + " " + render.Plain(a.Name)
}

// changeText has the values that differ, and the name.
func changeText(r *trail.Record) string {
	before := map[string]string{}
	for _, v := range r.Before {
		before[v.Name] = v.Value
	}
	var parts []string
	for _, v := range r.After {
		was, known := before[v.Name]
		delete(before, v.Name)
		switch {
		case known && was == v.Value && v.Name != "name":
		case known && was != v.Value:
			parts = append(parts, fmt.Sprintf("%s: %s → %s", v.Name, was, v.Value))
		default:
			parts = append(parts, v.Name+": "+v.Value)
		}
	}
	for _, v := range r.Before {
		if _, gone := before[v.Name]; gone {
			parts = append(parts, fmt.Sprintf("%s: %s → none", v.Name, v.Value))
		}
	}
	return render.Plain(strings.Join(parts, ", "))
}

// actDetails shows all of an act.
func actDetails(e *client.AuditEntry) string {
	rows := []render.Row{
		{"act", e.Act}, {"time", render.LocalTime(e.Time)}, {"phase", e.Phase}, {"outcome", e.Outcome},
		{"actor", actorText(&e.Actor)}, {"role", e.Actor.Role}, {"from", render.Plain(e.Source.Address)},
		{"through", render.Plain(e.Source.Member)}, {"target", render.Plain(e.Target.Key())},
	}
	if e.Phase == trail.Ended {
		rows = append(rows, render.Row{"intent", e.Intent})
	}
	for _, v := range e.Before {
		rows = append(rows, render.Row{"before " + render.Plain(v.Name), render.Plain(v.Value)})
	}
	for _, v := range e.After {
		rows = append(rows, render.Row{"after " + render.Plain(v.Name), render.Plain(v.Value)})
	}
	return render.Table(rows...)
}
