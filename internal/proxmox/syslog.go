package proxmox

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones of nodes, on machines that have no zones

	"proxmox-realm/internal/check"
)

// Node is a host with a system log of its own.
type Node struct {
	Name        string
	Online      bool
	Fingerprint string // SHA-256 of the certificate that the node serves, AB:CD:…; "" if it is not known
}

// Nodes lists the nodes of the cluster by name (GET /nodes; any user may). A node that is not online cannot be asked for its
// log. A product without clusters has one node, localhost.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	if !c.dialect.product.Host().Clustered {
		return []Node{{Name: "localhost", Online: true}}, nil
	}
	var list []struct {
		Node, Status string
		Fingerprint  string `json:"ssl_fingerprint"`
	}
	if _, err := c.get(ctx, "/nodes", &list); err != nil {
		return nil, err
	}
	var nodes []Node
	for _, n := range list {
		if n.Node != "" {
			nodes = append(nodes, Node{Name: c.cleaner.Clean(n.Node), Online: cmp.Or(n.Status, "online") == "online", Fingerprint: plainText(n.Fingerprint)})
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}

// NodeTime is the clock of a node.
type NodeTime struct {
	Zone  *time.Location
	Ahead time.Duration // of this machine's clock, to about a second
	// Unsure tells that Zone is only the offset of now: this machine does not know the zone's rules for summer time.
	Unsure bool
}

// Now is the time on the node's clock.
func (t NodeTime) Now() time.Time { return time.Now().Add(t.Ahead).In(t.Zone) }

// NodeTime asks for a node's clock and zone (GET /nodes/{node}/time). It needs Sys.Audit on the node.
func (c *Client) NodeTime(ctx context.Context, node string) (NodeTime, error) {
	var answer struct {
		Time      int64
		LocalTime int64 `json:"localtime"` // Time and the offset of the zone
		Timezone  string
	}
	began := time.Now()
	if _, err := c.get(ctx, nodePath(node, "time"), &answer); err != nil {
		return NodeTime{}, err
	}
	middle := began.Add(time.Since(began) / 2)
	now := time.Unix(answer.Time, 500e6)
	offset := int(answer.LocalTime - answer.Time)
	t := NodeTime{Ahead: now.Sub(middle).Round(time.Second)}
	if zone, err := time.LoadLocation(answer.Timezone); err == nil && answer.Timezone != "Local" {
		if _, own := now.In(zone).Zone(); own == offset {
			t.Zone = zone
			return t, nil
		}
	}
	t.Zone, t.Unsure = time.FixedZone("", offset), offset != 0
	return t, nil
}

func nodePath(node, what string) string { return "/nodes/" + url.PathEscape(node) + "/" + what }

// LogPage is a part of a log: lines as `journalctl -o short` prints them, not cleaned.
type LogPage struct {
	Lines []string
	// Zone is that of the time stamps. If it is nil, Offsets holds what is known of it: those of the first and of the last line, in
	// seconds east of UTC.
	Zone    *time.Location
	Offsets []int
	Now     time.Time // on the node's clock
}

// LogRange says what to read of a log.
type LogRange struct {
	Since time.Time // on the node's clock; the first lines may be older
	// Requests is how many requests a read sends at most; 0: until the end of the log.
	Requests int
}

const (
	pageLines    = 5000          // of one request for a system log
	fewestLines  = 10            // of one, if lines are so long that an answer becomes too large
	journalReach = 6 * time.Hour // of one request for the journal of all units
)

// ReadLog reads a node's log of logins from a time on (GET /nodes/{node}/syslog). It reads page by page, so the length of the log
// does not matter. It needs Sys.Syslog on the node, or Sys.Audit on /system/log. It returns whether it came to the end.
func (c *Client) ReadLog(ctx context.Context, node string, at NodeTime, r LogRange, page func(LogPage)) (whole bool, err error) {
	query := url.Values{"since": {logSince(r.Since, at).Format(time.DateTime)}}
	if c.dialect.product.Host().Clustered { // the others have lines of several daemons, and fewer
		query.Set("service", c.dialect.service)
	}
	last, limit := 0, pageLines
	ask := func() (end bool, err error) {
		query.Set("start", strconv.Itoa(last))
		query.Set("limit", strconv.Itoa(limit))
		var lines []struct {
			N int
			T string
		}
		if _, err := c.get(ctx, nodePath(node, "syslog")+"?"+query.Encode(), &lines); err != nil {
			return false, err
		}
		p := LogPage{Zone: at.Zone, Now: at.Now()}
		for _, l := range lines {
			if l.N > last { // Proxmox VE begins after line `start`, Backup Server with it
				last = l.N
				p.Lines = append(p.Lines, l.T)
			}
		}
		page(p)
		return len(lines) < limit || len(p.Lines) == 0, nil
	}
	return c.readParts(r, ask, func(e *Error) bool {
		smaller := e.tooLarge && limit > fewestLines
		if smaller {
			limit /= 4
		}
		return smaller
	})
}

// readParts sends one request after another, until the end of the log or the limit of requests. shrink makes the next request
// smaller after an error, and returns false if that is of no use.
func (c *Client) readParts(r LogRange, ask func() (end bool, err error), shrink func(*Error) bool) (whole bool, err error) {
	for n := 1; ; n++ {
		end, err := ask()
		var e *Error
		switch {
		case err != nil && (!errors.As(err, &e) || !shrink(e)):
			return false, c.unreadable(err)
		case end:
			return true, nil
		case n == r.Requests:
			return false, nil
		}
	}
}

// logSince returns the time of day from which on a node prints its log. Where clocks are set back, an hour has every time of
// day twice. Then it is one before that hour: the order of the lines tells which is meant.
func logSince(since time.Time, at NodeTime) time.Time {
	local := since.In(at.Zone)
	if at.Unsure {
		return local.Add(-time.Hour) // clocks may have changed since
	}
	const day = 24 * time.Hour
	_, before := local.Add(-day).Zone()
	_, after := local.Add(day).Zone()
	twice := time.Duration(before-after) * time.Second
	for _, other := range []time.Time{local.Add(twice), local.Add(-twice)} {
		if twice > 0 && other.Format(time.DateTime) == local.Format(time.DateTime) {
			return local.Add(-2 * twice)
		}
	}
	return local
}

// ReadJournal reads a node's log without knowing its zone (GET /nodes/{node}/journal). It needs Sys.Syslog on the node alone. The
// cursors before and after the lines tell the time of the first and of the last one. It returns whether it came to the end.
func (c *Client) ReadJournal(ctx context.Context, node string, ahead time.Duration, r LogRange, page func(LogPage)) (whole bool, err error) {
	unit := true // pve-manager 9.2.4 and later can choose the lines of a unit; others send all, so the time is cut in pieces
	reach := time.Duration(math.MaxInt64)
	from := r.Since.Truncate(time.Second)
	var left time.Duration // until now
	ask := func() (end bool, err error) {
		now := time.Now().Add(ahead)
		left = now.Sub(from)
		query := url.Values{"since": {strconv.FormatInt(from.Unix(), 10)}}
		if end = left <= reach; !end {
			query.Set("until", strconv.FormatInt(from.Add(reach).Unix(), 10))
		}
		if unit {
			query.Set("unit", c.dialect.service)
		}
		var lines []string
		if _, err := c.get(ctx, nodePath(node, "journal")+"?"+query.Encode(), &lines); err != nil {
			return false, err
		}
		if p, ok := journalPage(lines); ok {
			p.Now = now
			page(p)
		}
		if !end {
			from = from.Add(reach)
		}
		return end, nil
	}
	return c.readParts(r, ask, func(e *Error) bool {
		switch part := min(reach, left); {
		case unit && e.Fields["unit"] != "":
			unit, reach = false, journalReach
		case e.tooLarge && part > time.Second:
			reach = max(part/4, time.Second).Truncate(time.Second)
		default:
			return false
		}
		return true
	})
}

// journalPage reads an answer of GET /nodes/{node}/journal: a cursor, lines, a cursor.
func journalPage(answer []string) (LogPage, bool) {
	if len(answer) < 3 {
		return LogPage{}, false
	}
	last := len(answer) - 1
	p := LogPage{Lines: answer[1:last]}
	backwards := slices.Clone(p.Lines)
	slices.Reverse(backwards)
	for cursor, lines := range map[string][]string{answer[0]: p.Lines, answer[last]: backwards} {
		if offset, ok := offsetAt(cursor, lines); ok && !slices.Contains(p.Offsets, offset) {
			p.Offsets = append(p.Offsets, offset)
		}
	}
	return p, len(p.Offsets) > 0
}

// offsetAt returns the offset of a node's zone, by a cursor and the first of the lines that has a time stamp. The cursor holds
// the time in microseconds (sd_journal_get_cursor(3): t=, in hexadecimal).
func offsetAt(cursor string, lines []string) (offset int, ok bool) {
	micro, err := strconv.ParseInt(between(cursor+";", ";t=", ";"), 16, 64)
	if err != nil {
		return 0, false
	}
	at := time.UnixMicro(micro).UTC().Truncate(time.Second)
	for _, line := range lines {
		for year := at.Year() - 1; year <= at.Year()+1 && len(line) > len(time.Stamp); year++ {
			stamp, err := time.Parse("2006 "+time.Stamp, strconv.Itoa(year)+" "+line[:len(time.Stamp)])
			if offset := stamp.Sub(at); err == nil && offset.Abs() < 16*time.Hour {
				return int(offset.Round(time.Minute).Seconds()), true
			}
		}
	}
	return 0, false
}

// unreadable gives a refusal to show a log its hint.
func (c *Client) unreadable(err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Kind != PermissionDenied {
		return err
	}
	denied := *e
	said := *e.described
	said.Hint = c.LogHint()
	denied.described = &said
	return &denied
}

// LogHint says how the credentials get to read the logs of all nodes.
func (c *Client) LogHint() check.Hint {
	d, k := c.dialect, c.dialect.product.Host()
	creations, grants := d.granting(c.Identity(), d.log)
	return check.Hints(
		k.Run("this opens the whole system log of "+k.All+", with names and addresses of users", append(creations, grants...)...),
		k.Run("or read the log where the login failed", "journalctl -u "+d.service+" --since -1h"))
}

// wholeJournal returns the body of an answer of /journal. Its reader fails in the middle where no entry is in the range.
func wholeJournal(path string, status int, body []byte) []byte {
	text := strings.TrimSpace(string(body[:min(len(body), 16)]))
	if status == http.StatusOK && strings.HasSuffix(path, "/journal") && (text == "" || text == `{"data":[`) {
		return []byte(`{"data":[]}`)
	}
	return body
}
