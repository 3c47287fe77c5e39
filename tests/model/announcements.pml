/*
 * Commits that the processes of one host announce to each other (coherent_cache/announcements.py).
 *
 * Writers announce, send their COMMIT, and wait for its answer, which may be lost; each may be killed
 * at any step, and another takes its place.  The database carries out what was sent, now or later,
 * also for a writer that is no more.  Somebody settles what was left.  A reader looks at the slots, one
 * after the other, and asks the database unless they are what they were when they were even.
 *
 * Claim G1: whoever does not ask has seen every commit that was visible when he looked, which is more
 * than those that had returned.
 *
 * Left out: prepared transactions, and that the file may be replaced.
 */

#define WRITERS 2
#define SLOTS 2
#ifndef COMMITS
#define COMMITS 1       /* of each writer, or of those that take its place */
#endif
#ifndef LOOKS
#define LOOKS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define SETTLER WRITERS
#define NOBODY 255

byte slot[SLOTS];
byte owner[SLOTS] = NOBODY;     /* by a lock, which goes with the process */

/* The database. */
byte version;                   /* how many commits are visible */
byte transaction[WRITERS];      /* the number of the newest one of each writer's connection */
bool open[WRITERS];
bool sent[WRITERS];             /* its COMMIT is on its way, or about to be carried out */
bool gone[WRITERS];             /* nobody is at the other end of the connection */

byte deaths = DEATHS;

proctype database(byte w) {
end:
    do
    :: atomic { open[w] && sent[w] -> sent[w] = false; open[w] = false;
                version++ }
#ifdef ANNOUNCED_BEFORE_IT_IS_OPEN
    :: atomic { !open[w] && sent[w] -> open[w] = true; transaction[w]++ }
#endif
    :: atomic { open[w] && sent[w] -> sent[w] = false; open[w] = false }    /* it fails */
    :: atomic { open[w] && !sent[w] && gone[w] -> open[w] = false }
    od
}

/* The process is no more: its locks are free, and what it has sent is still on its way. */
inline die(w) {
    atomic {
        deaths > 0 -> deaths--;
        d_step {
            for (i : 0 .. SLOTS - 1) {
                if
                :: owner[i] == w -> owner[i] = NOBODY
                :: else
                fi
            }
            gone[w] = true;
        }
        goto next
    }
}

proctype writer(byte w) {
    byte left = COMMITS;
    byte mine;
    byte i;
next:
    /* The connection that a writer had before has to have gone: another is another number. */
    atomic { !open[w] && !sent[w] -> gone[w] = false }
    do
    :: atomic { left == 0 -> break }
    :: atomic { left > 0 ->
        left--;
#ifndef ANNOUNCED_BEFORE_IT_IS_OPEN
        open[w] = true; transaction[w]++;
#endif
        skip }
#ifndef ANNOUNCED_AFTER_THE_COMMIT
        atomic {
            if
            :: owner[0] == w && !(slot[0] & 1) -> mine = 0
            :: owner[1] == w && !(slot[1] & 1) -> mine = 1
            :: owner[0] == NOBODY && !(slot[0] & 1) -> mine = 0; owner[0] = w
            :: owner[1] == NOBODY && !(slot[1] & 1) -> mine = 1; owner[1] = w
            :: else -> gone[w] = true; break    /* none is left, and from then on everybody asks */
            fi
        }
        if
        :: slot[mine]++
        :: die(w)
        fi;
#endif
        if
        :: sent[w] = true
        :: die(w)
        fi;
        if
        :: atomic { !sent[w] && !open[w] ->
#ifdef ANNOUNCED_AFTER_THE_COMMIT
            if
            :: owner[0] == NOBODY || owner[0] == w -> mine = 0; owner[0] = w
            :: owner[1] == NOBODY || owner[1] == w -> mine = 1; owner[1] = w
            fi;
            slot[mine]++
#endif
            }
            if
            :: slot[mine]++
            :: die(w)
            fi
        :: atomic { true ->     /* the answer is lost, whatever comes of the COMMIT */
#ifdef LOST_TAKEN_FOR_ENDED
            slot[mine]++;
#else
            owner[mine] = NOBODY;
#endif
            gone[w] = true;
            goto next }
        :: die(w)
        fi
    od
}

proctype settler() {
    byte mine;
    byte then[WRITERS];
    byte w;
end:
    do
#ifdef OPEN_ASKED_FOR_BEFORE_THE_SLOT_IS_OWNED
    :: atomic {
            for (w : 0 .. WRITERS - 1) { then[w] = (open[w] -> transaction[w] : 0) }
            w = 0
        }
end_waiting:
        atomic {
#else
    :: atomic {
#endif
        if
        :: owner[0] == NOBODY && (slot[0] & 1) -> mine = 0
        :: owner[1] == NOBODY && (slot[1] & 1) -> mine = 1
        fi;
        owner[mine] = SETTLER }
#ifndef SETTLED_AT_ONCE
#ifndef OPEN_ASKED_FOR_BEFORE_THE_SLOT_IS_OWNED
        atomic {
            for (w : 0 .. WRITERS - 1) { then[w] = (open[w] -> transaction[w] : 0) }
            w = 0
        }
#endif
        /* Of what was open nothing is any more. */
end_open:
        atomic {
            (then[0] == 0 || !open[0] || transaction[0] != then[0]) &&
            (then[1] == 0 || !open[1] || transaction[1] != then[1])
        }
#endif
        slot[mine]++;
        owner[mine] = NOBODY
    od
}

inline read_slots() {
    now[0] = slot[0];
    now[1] = slot[1]
}

proctype reader() {
    byte left = LOOKS;
    byte seen[SLOTS];
    byte now[SLOTS];
    byte must, known;
    bool vouched, g1_nothing_is_missed;
    do
    :: atomic { left == 0 -> break }
    :: atomic { left > 0 -> left--; must = version }
        read_slots();
        if
        :: atomic { vouched && seen[0] == now[0] && seen[1] == now[1] ->
            g1_nothing_is_missed = (known >= must);
            assert(g1_nothing_is_missed) }
        :: atomic { else -> vouched = false }
#ifdef SLOTS_READ_AFTER_THE_STATEMENT
            known = version;
            read_slots();
#else
            read_slots();
            known = version;
#endif
            d_step {
                seen[0] = now[0]; seen[1] = now[1];
#ifdef ODD_TAKEN_FOR_EVEN
                vouched = true
#else
                vouched = !((now[0] | now[1]) & 1)
#endif
            }
        fi
    od
}

init {
    atomic {
        run database(0);
        run database(1);
        run writer(0);
        run writer(1);
        run settler();
        run reader()
    }
}
