// Package admin has the commands that administer a cluster: projects and their tokens, the keys of the log, membership,
// and the confirmation of lost blocks.
package admin

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewProject is the parent of the commands on projects.
func NewProject() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "project",
		Short: "Create and list projects, their tokens and quotas",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newProjectCreateCommand(), newProjectListCommand(), newProjectShowCommand(), newProjectQuotaCommand(),
		newProjectAccessCommand(),
		newProjectTokenCommand(),
	)
	return cmd
}

func newProjectCreateCommand() *cobra.Command {
	var p wire.NewProject
	var quota wire.Quota
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "create NAME",
		Short: "Create a project and print its token, which is shown only once",
		Long: `Create a project and print its id and its first token, which may read and append. The command needs
the admin token, unless the masters run with --open-registration.

The token is shown only once. To save it, use --json for example:

  chainstore project create sensors --json | jq -r .token > sensors.token`,
		Args: cli.ExactArgs("one project"),
	}, cli.AsFounder, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		p.Name = args[0]
		if quota != (wire.Quota{}) {
			p.Quota = &quota
		}
		created, err := c.CreateProject(cmd.Context(), p)
		if errors.Is(err, wire.ErrUnauthorized) {
			return fmt.Errorf("%w: registration is not open here, give --admin-token-file FILE or set %s", err,
				cli.EnvAdminToken)
		}
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, created)
		}
		if _, err := fmt.Fprintf(out, "id     %d\nname   %s\ntoken  %s\n", created.ID, render.Plain(created.Name),
			created.Token); err != nil {
			return err
		}
		return shownOnce(cmd)
	})
	cmd.Flags().BoolVar(&p.Public, "public", false,
		"let every token of the cluster read the project's records")
	addQuota(cmd, &quota)
	cli.AddJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

// shownOnce prints a reminder to save the token, on the standard error so that it stays out of pipes.
func shownOnce(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), "The token is shown only once: keep it.")
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
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List the projects with their records and quotas",
	}, cli.AsAny, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		list := render.NewSheet(cmd.OutOrStdout(), asJSON, "ID", "NAME", "ACCESS", "RECORDS", "QUOTA", "CREATED")
		for cursor, more := "", true; more; {
			page, err := c.Projects(cmd.Context(), cursor, projectsPage)
			if err != nil {
				return err
			}
			for i := range page.Projects {
				p := &page.Projects[i]
				err := list.Add(p, strconv.FormatUint(uint64(p.ID), 10), render.Plain(p.Name), accessText(p.Public),
					strconv.FormatUint(p.Records, 10), quotaText(p.Quota), render.LocalTime(p.Created))
				if err != nil {
					return err
				}
			}
			cursor, more = page.Next, page.Next != ""
		}
		return list.Print(1, 4)
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object a line for each project")
	return cmd
}

func newProjectShowCommand() *cobra.Command {
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "show NAME|ID",
		Short: "Show a project",
		Args:  cli.ExactArgs("one project"),
	}, cli.AsAny, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		p, err := c.Project(cmd.Context(), args[0])
		if err != nil {
			return notListed(err)
		}
		return printProject(cmd.OutOrStdout(), p, asJSON)
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

func newProjectQuotaCommand() *cobra.Command {
	var q wire.Quota
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "quota NAME|ID",
		Short: "Limit what may be appended to a project",
		Long: `Limit what may be appended to a project. The command needs the admin token. A limit that is not given
does not change; 0 removes a limit.

A burst may use up one second's quota at once. Appends above the quota are refused with 429 and the time to wait. A
record or a batch that is larger than the quota ever allows is refused with 413.`,
		Example: "  chainstore project quota sensors --records-per-second 100 --record-bytes 4096",
		Args:    cli.ExactArgs("one project"),
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		given := func(flag string, value *uint64) *uint64 {
			if cmd.Flags().Changed(flag) {
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
		p, err := c.ChangeProject(cmd.Context(), args[0], wire.ProjectChange{Quota: &change})
		if err != nil {
			return notListed(err)
		}
		return printProject(cmd.OutOrStdout(), p, asJSON)
	})
	addQuota(cmd, &q)
	cli.AddJSON(cmd, &asJSON, "print the project as one JSON object")
	return cmd
}

func newProjectAccessCommand() *cobra.Command {
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "access NAME|ID public|private",
		Short: "Make a project's records public or private",
		Long: `Make a project's records public, so that every project token of the cluster can read them, or private,
so that only its own tokens can. The command needs the admin token.`,
		Args: cli.ExactArgs("one project, and public or private"),
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		public := args[1] == "public"
		if !public && args[1] != "private" {
			return fmt.Errorf("%q is neither public nor private", args[1])
		}
		p, err := c.ChangeProject(cmd.Context(), args[0], wire.ProjectChange{Public: &public})
		if err != nil {
			return notListed(err)
		}
		return printProject(cmd.OutOrStdout(), p, asJSON)
	})
	cli.AddJSON(cmd, &asJSON, "print the project as one JSON object")
	return cmd
}

// notListed adds to a not-found error how to list the projects.
func notListed(err error) error {
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: 'chainstore project list' lists the projects", err)
	}
	return err
}

func printProject(w io.Writer, p wire.Project, asJSON bool) error {
	if asJSON {
		return render.JSON(w, p)
	}
	return render.Rows(w, [][]string{
		{"id", strconv.FormatUint(uint64(p.ID), 10)}, {"name", render.Plain(p.Name)}, {"access", accessText(p.Public)},
		{"records", strconv.FormatUint(p.Records, 10)}, {"quota", quotaText(p.Quota)},
		{"created", render.LocalTime(p.Created)},
	})
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
