// Package admin has the commands that administer a cluster: projects and their tokens, the keys of the log, membership,
// and the confirmation of lost blocks.
package admin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewProject is the parent of the commands on projects.
func NewProject() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "project",
		Short: "Create and list projects, their tokens and quotas",
	}, newProjectCreateCommand(), newProjectListCommand(), newProjectShowCommand(), newProjectQuotaCommand(),
		newProjectAccessCommand(), newProjectCloseCommand(), newProjectReopenCommand(), newProjectTokenCommand())
}

func newProjectCreateCommand() *cobra.Command {
	var p wire.NewProject
	var quota wire.Quota
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "create NAME",
		Short: "Create a project and print its token, which is shown only once",
		Long: `Create a project and print its id and its first token, which may read and append. The command needs
the admin token, unless the masters run with --open-registration.

The token is shown only once. To save it, use --json for example:

  chainstore project create sensors --json | jq -r .token > sensors.token`,
		Args: cli.ExactArgs("one project"),
	}, cli.Use{Role: cli.AsFounder, JSON: "print one JSON object"}, func(c *cli.Call) error {
		p.Name = c.Args[0]
		if quota != (wire.Quota{}) {
			p.Quota = &quota
		}
		created, err := c.CreateProject(c.Ctx, p)
		if errors.Is(err, wire.ErrUnauthorized) {
			return fmt.Errorf("%w: registration is not open here, give --admin-token-file FILE or set %s", err,
				cli.EnvAdminToken)
		}
		if err != nil {
			return err
		}
		return printToken(c, created, render.Table(render.Row{"id", created.ID}, render.Row{"name", created.Name},
			render.Row{"token", created.Token}))
	})
	cmd.Flags().BoolVar(&p.Public, "public", false,
		"let every token of the cluster read the project's records")
	addQuota(cmd, &quota)
	return cmd
}

// printToken prints a new token and, on the standard error, a reminder to save it.
func printToken(c *cli.Call, result any, text string) error {
	err := c.Print(result, text)
	if err == nil && !c.JSON {
		_, err = fmt.Fprintln(c.Cmd.ErrOrStderr(), "The token is shown only once: keep it.")
	}
	return err
}

// The flags of a quota.
const (
	flagRecords     = "records-per-second"
	flagBytes       = "bytes-per-second"
	flagRecordBytes = "record-bytes"
)

// addQuota adds the flags of a quota to a command.
func addQuota(cmd *cobra.Command, q *wire.Quota) {
	flags := cmd.Flags()
	flags.Uint64Var(&q.RecordsPerSecond, flagRecords, 0, "records that may be appended in a second, 0 for no limit")
	flags.Uint64Var(&q.BytesPerSecond, flagBytes, 0,
		"bytes of payloads that may be appended in a second, 0 for no limit")
	flags.Uint64Var(&q.RecordBytes, flagRecordBytes, 0,
		"bytes that a record may have, 0 for the limit of the cluster")
}

// projectsPage is the number of projects in one request.
const projectsPage = 500

func newProjectListCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List the projects with their records and quotas",
	}, cli.Use{Role: cli.AsAny, JSON: "print one JSON object a line for each project"}, func(c *cli.Call) error {
		var all []wire.Project
		for cursor, more := "", true; more; {
			page, err := c.Projects(c.Ctx, cursor, projectsPage)
			if err != nil {
				return err
			}
			if err := cli.PrintList(c, page.Projects, ""); err != nil { // with --json a page at a time
				return err
			}
			all = append(all, page.Projects...)
			cursor, more = page.Next, page.Next != ""
		}
		titles := render.Row{"ID", "NAME", "ACCESS", "RECORDS", "QUOTA", "CREATED"}
		rows := render.Rows(titles, all, func(p *wire.Project) render.Row {
			return render.Row{p.ID, p.Name, stateText(p), p.Records, quotaText(p.Quota),
				render.LocalTime(p.Created)}
		})
		return cli.PrintList[wire.Project](c, nil, render.Fit(render.Width(c.Out), []int{1, 4}, rows...))
	})
}

func newProjectShowCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "show NAME|ID",
		Short: "Show a project",
		Args:  cli.ExactArgs("one project"),
	}, cli.Use{Role: cli.AsAny, JSON: "print one JSON object"}, func(c *cli.Call) error {
		p, err := c.Project(c.Ctx, c.Args[0])
		if err != nil {
			return notListed(err)
		}
		return c.Print(p, projectText(&p))
	})
}

func newProjectQuotaCommand() *cobra.Command {
	var q wire.Quota
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "quota NAME|ID",
		Short: "Limit what may be appended to a project",
		Long: `Limit what may be appended to a project. The command needs the admin token. A limit that is not given
does not change; 0 removes a limit.

A burst may use up one second's quota at once. Appends above the quota are refused with 429 and the time to wait. A
record or a batch that is larger than the quota ever allows is refused with 413.`,
		Example: "  chainstore project quota sensors --records-per-second 100 --record-bytes 4096",
		Args:    cli.ExactArgs("one project"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print the project as one JSON object"}, func(c *cli.Call) error {
		given := func(flag string, value *uint64) *uint64 {
			if c.Cmd.Flags().Changed(flag) {
				return value
			}
			return nil
		}
		change := wire.QuotaChange{
			RecordsPerSecond: given(flagRecords, &q.RecordsPerSecond),
			BytesPerSecond:   given(flagBytes, &q.BytesPerSecond),
			RecordBytes:      given(flagRecordBytes, &q.RecordBytes),
		}
		if change == (wire.QuotaChange{}) {
			return fmt.Errorf("nothing to change: give --%s, --%s or --%s", flagRecords, flagBytes,
				flagRecordBytes)
		}
		p, err := c.ChangeProject(c.Ctx, c.Args[0], wire.ProjectChange{Quota: &change})
		if err != nil {
			return notListed(err)
		}
		return c.Print(p, projectText(&p))
	})
	addQuota(cmd, &q)
	return cmd
}

func newProjectAccessCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "access NAME|ID public|private",
		Short: "Make a project's records public or private",
		Long: `Make a project's records public, so that every project token of the cluster can read them, or private,
so that only its own tokens can. The command needs the admin token.`,
		Args: cli.ExactArgs("one project, and public or private"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print the project as one JSON object"}, func(c *cli.Call) error {
		public := c.Args[1] == "public"
		if !public && c.Args[1] != "private" {
			return fmt.Errorf("%q is neither public nor private", c.Args[1])
		}
		p, err := c.ChangeProject(c.Ctx, c.Args[0], wire.ProjectChange{Public: &public})
		if err != nil {
			return notListed(err)
		}
		return c.Print(p, projectText(&p))
	})
}

func newProjectCloseCommand() *cobra.Command {
	return closing(&cobra.Command{
		Use:   "close NAME|ID",
		Short: "Close a project: nothing is appended to it any more",
		Long: `Close a project: appends are refused with 403 from then on. Its records stay, and can be read and proven
as before. The command needs the admin token. 'chainstore project reopen' takes it back.`,
	}, true)
}

func newProjectReopenCommand() *cobra.Command {
	return closing(&cobra.Command{
		Use:   "reopen NAME|ID",
		Short: "Open a closed project again",
		Long:  "Open a closed project again, so that records can be appended. The command needs the admin token.",
	}, false)
}

// closing completes the command that closes projects, or the one that opens them again.
func closing(cmd *cobra.Command, closed bool) *cobra.Command {
	cmd.Args = cli.ExactArgs("one project")
	use := cli.Use{Role: cli.AsAdmin, JSON: "print the project as one JSON object"}
	return cli.UseCluster(cmd, use, func(c *cli.Call) error {
		p, err := c.ChangeProject(c.Ctx, c.Args[0], wire.ProjectChange{Closed: &closed})
		if err != nil {
			return notListed(err)
		}
		return c.Print(p, projectText(&p))
	})
}

// notListed adds to a not-found error how to list the projects.
func notListed(err error) error {
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: 'chainstore project list' lists the projects", err)
	}
	return err
}

func projectText(p *wire.Project) string {
	rows := []render.Row{
		{"id", p.ID}, {"name", p.Name}, {"access", accessText(p.Public)}, {"records", p.Records},
		{"quota", quotaText(p.Quota)}, {"created", render.LocalTime(p.Created)},
	}
	if p.Closed != 0 {
		rows = append(rows, render.Row{"closed", render.LocalTime(p.Closed)})
	}
	return render.Table(rows...)
}

// stateText is the access to a project, with a mark for a closed one.
func stateText(p *wire.Project) string {
	if p.Closed != 0 {
		return accessText(p.Public) + ", closed"
	}
	return accessText(p.Public)
}

func accessText(public bool) string {
	if public {
		return "public"
	}
	return "private"
}

// quotaText formats a quota.
func quotaText(q wire.Quota) string {
	var parts []string
	if q.RecordsPerSecond != 0 {
		parts = append(parts, fmt.Sprintf("%d records/s", q.RecordsPerSecond))
	}
	if q.BytesPerSecond != 0 {
		parts = append(parts, render.Bytes(q.BytesPerSecond)+"/s")
	}
	if q.RecordBytes != 0 {
		parts = append(parts, render.Bytes(q.RecordBytes)+" a record")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
