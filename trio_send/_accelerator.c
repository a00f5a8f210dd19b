/* The short ways of sending, compiled: how a send is started and ended, how one joins a queue and how the head of a
   queue is sent, and how args are given another message.

   The methods in Python are complete, and say what is right. What is here takes their place for a call of which every
   look says that it is an ordinary one: an open socket of the system, nothing in front, an owner that was found fit
   before, a buffer of one of Python's own types. Whatever is not ordinary is handed over to the method in Python, with
   the arguments as they came, before anything was changed; and if the kernel does not take everything, what it took is
   counted here and Python goes on from there.

   No layout is assumed. At import the offset of each attribute is read from the class that has it, and where one is
   missing, or the first field of a socket object is not its descriptor, there is an ImportError and all of it is left
   to Python.

   Nothing here can be interrupted. Python looks at signals between its own instructions, and there is none of them
   between the last look at the gate of the queue and the account of what the kernel took. So the gate need not say STEP,
   nor the operation TRYING, while a small message is sent that is accepted whole: nobody can look. Both do, as in
   Python, before other threads run, which is during the system call for a message of RELEASE_SIZE bytes or more, and
   before an exception is made, or Python goes on, where finalisers and signal handlers may run. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif

#ifdef Py_GIL_DISABLED
#error "there are no locks in here, so the GIL has to be"
#endif

#ifdef PYPY_VERSION
#error "this reads the insides of CPython's objects"
#endif

/* The system call for so many bytes takes longer than it takes to let other threads run meanwhile. */
#define RELEASE_SIZE 65536

/* Up to this number Python has one object for each, so to count down takes no memory. */
#define LARGEST_BUDGET 256

/* As many bytes are put together to be sent in one call, and no more. */
#define JOIN_SIZE 65536

/* -- what is known of the classes ------------------------------------------------------------------------------ */

/* The classes, by the names under which they are handed in. */
#define CLASSES_OF(X) \
    X(SOCKET, "socket") \
    X(CORE, "core") \
    X(ARGS, "args") \
    X(SETTINGS, "settings") \
    X(EVENT, "event") \
    X(RECORD, "record") \
    X(OPERATION, "operation") \
    X(RESULT_OPERATION, "result_operation") \
    X(RESULT, "result") \
    X(PENDING_RESULT, "pending_result") \
    X(OWNER, "owner") \
    X(SCOPE_OWNER, "scope_owner") \
    X(QUEUE, "queue") \
    X(PORT, "port") \
    X(MARKS, "marks") \
    X(TRIES, "tries") \
    X(ENGINE, "engine") \
    X(POLLSET, "pollset") \
    X(DISPATCHER, "dispatcher") \
    X(WAITING, "waiting") \
    X(INBOX, "inbox") \
    X(INSTRUMENTS, "instruments") \
    X(MESSAGE, "message") \
    X(WHOLE_BYTES, "whole_bytes") \
    X(PIECE, "piece")

/* What is used of them: a name in here, the class, the name of the attribute. */
#define ATTRIBUTES_OF(X) \
    X(SOCKET_CORE, SOCKET, "_core") \
    X(CORE_CHECKED, CORE, "checked") \
    X(CORE_SEND, CORE, "send") \
    X(CORE_SENDS, CORE, "sends") \
    X(CORE_THREAD, CORE, "thread") \
    X(CORE_TOKEN, CORE, "token") \
    X(ARGS_OPERATION, SETTINGS, "_operation") \
    X(EVENT_HANDLERS, EVENT, "_handlers") \
    X(ACTIVATION, RECORD, "activation") \
    X(ADDRESS, RECORD, "address") \
    X(BUFFER, OPERATION, "buffer") \
    X(BUFFER_LIST, OPERATION, "buffer_list") \
    X(CALLER, OPERATION, "caller") \
    X(CODE, RECORD, "code") \
    X(CONTEXT, RECORD, "context") \
    X(CONTINUES, RECORD, "continues") \
    X(DETAIL, RECORD, "detail") \
    X(DIRECT, OPERATION, "direct") \
    X(ERROR_NUMBER, RECORD, "errno") \
    X(EVENT_OF_ARGS, OPERATION, "event") \
    X(FACE, RECORD, "face") \
    X(FLAGS, RECORD, "flags") \
    X(FLOWS_CONTEXT, OPERATION, "flows_context") \
    X(IS_CLOSED, OPERATION, "is_closed") \
    X(IS_CLOSING, OPERATION, "is_closing") \
    X(IS_FRESH, RECORD, "is_fresh") \
    X(IS_OVERRIDDEN, OPERATION, "is_overridden") \
    X(KIND, RECORD, "kind") \
    X(LIMIT, RECORD, "limit") \
    X(LIMITS, RECORD, "limits") \
    X(MESSAGE_OF_OPERATION, RECORD, "message") \
    X(NEXT, RECORD, "next") \
    X(OWNER_OF_OPERATION, RECORD, "owner") \
    X(PIECE_OF_OPERATION, OPERATION, "piece") \
    X(PREPARED, OPERATION, "prepared") \
    X(PREVIOUS, RECORD, "previous") \
    X(QUEUE_OF_OPERATION, RECORD, "queue") \
    X(SETTLED, OPERATION, "settled") \
    X(SIZE, OPERATION, "size") \
    X(SOCKET_OF_OPERATION, RECORD, "socket") \
    X(SOCKET_FLAGS, OPERATION, "socket_flags") \
    X(STATE, RECORD, "state") \
    X(STEP, RECORD, "step") \
    X(TRANSFERRED, RECORD, "transferred") \
    X(WAITERS, RECORD, "waiters") \
    X(RESULT_CALLBACK, RESULT_OPERATION, "callback") \
    X(RESULT_OPERATION_HANDLE, RESULT_OPERATION, "handle") \
    X(RESULT_ASYNC_STATE, RESULT, "async_state") \
    X(RESULT_HANDLE, RESULT, "handle") \
    X(RESULT_IS_TAKEN, RESULT, "is_taken") \
    X(RESULT_ORIGIN, RESULT, "origin") \
    X(RESULT_OPERATION_OF, RESULT, "_operation") \
    X(RESULT_TRANSFERRED, RESULT, "transferred") \
    X(OWNER_ADOPTED_BY, OWNER, "adopted_by") \
    X(OWNER_BUDGET, OWNER, "budget") \
    X(OWNER_ENDED_ON_THE_SPOT, OWNER, "ended_on_the_spot") \
    X(OWNER_HELD, OWNER, "held") \
    X(OWNER_INBOX, OWNER, "inbox") \
    X(OWNER_IS_EXITING, OWNER, "is_exiting") \
    X(OWNER_QUEUES, OWNER, "queues") \
    X(OWNER_RESERVE, OWNER, "reserve") \
    X(OWNER_STARTED, OWNER, "started") \
    X(OWNER_STOPPED, OWNER, "stopped") \
    X(OWNER_SUCCEEDED, OWNER, "succeeded") \
    X(OWNER_TRIO_THREAD, OWNER, "trio_thread") \
    X(INBOX_TOKEN, INBOX, "_token") \
    X(SCOPE_DISPATCHER, SCOPE_OWNER, "dispatcher") \
    X(SCOPE_ENGINE, SCOPE_OWNER, "engine") \
    X(SCOPE_INSTRUMENTS, SCOPE_OWNER, "instruments") \
    X(SCOPE_QUIET, SCOPE_OWNER, "quiet") \
    X(QUEUE_ACCEPTED, QUEUE, "accepted") \
    X(QUEUE_BACKOFF, QUEUE, "backoff") \
    X(QUEUE_BACKOFFS, QUEUE, "backoffs") \
    X(QUEUE_DRAINED, QUEUE, "drained") \
    X(QUEUE_GATE, QUEUE, "gate") \
    X(QUEUE_HALTED, QUEUE, "halted") \
    X(QUEUE_HEAD, QUEUE, "head") \
    X(QUEUE_HELD, QUEUE, "held") \
    X(QUEUE_HOPEFUL, QUEUE, "hopeful") \
    X(QUEUE_INSTRUMENTS, QUEUE, "instruments") \
    X(QUEUE_LENGTH, QUEUE, "length") \
    X(QUEUE_MARKS, QUEUE, "marks") \
    X(QUEUE_OFFERED, QUEUE, "offered") \
    X(QUEUE_PORT, QUEUE, "port") \
    X(QUEUE_REFILLS, QUEUE, "refills") \
    X(QUEUE_SOCKET_ID, QUEUE, "socket_id") \
    X(QUEUE_STARTED, QUEUE, "started") \
    X(QUEUE_SUCCEEDED, QUEUE, "succeeded") \
    X(QUEUE_TAIL, QUEUE, "tail") \
    X(QUEUE_TORN, QUEUE, "torn") \
    X(QUEUE_WATCHED, QUEUE, "watched") \
    X(QUEUE_WATCHER, QUEUE, "watcher") \
    X(TRIES_SKIPS, TRIES, "skips") \
    X(ENGINE_DOZES, ENGINE, "_dozes") \
    X(ENGINE_POLLSET, ENGINE, "_pollset") \
    X(ENGINE_TRIES, ENGINE, "_tries") \
    X(ENGINE_TURNS, ENGINE, "_turns") \
    X(POLLSET_ARMED, POLLSET, "armed") \
    X(POLLSET_EPOLL, POLLSET, "_epoll") \
    X(POLLSET_FD, POLLSET, "fd") \
    X(POLLSET_READERS, POLLSET, "_readers") \
    X(POLLSET_WRITERS, POLLSET, "_writers") \
    X(DISPATCHER_BATCH, DISPATCHER, "_open_batch") \
    X(DISPATCHER_IDLE, DISPATCHER, "_idle") \
    X(DISPATCHER_OUTSTANDING, DISPATCHER, "outstanding") \
    X(WAITING_NEWS, WAITING, "news") \
    X(WAITING_TASKS, WAITING, "_tasks") \
    X(PORT_SEND, PORT, "send") \
    X(MARKS_GOAL, MARKS, "goal") \
    X(MARKS_HIGH, MARKS, "high") \
    X(MARKS_IS_ABOVE, MARKS, "is_above") \
    X(MARKS_REFUSES, MARKS, "refuses") \
    X(INSTRUMENTS_SOCKETS, INSTRUMENTS, "_sockets") \
    X(INSTRUMENTS_WATCHING, INSTRUMENTS, "watching") \
    X(MESSAGE_DIRECT, MESSAGE, "direct") \
    X(MESSAGE_SIZE, MESSAGE, "size") \
    X(PIECE_BUFFER, PIECE, "buffer") \
    X(PIECE_OFFSET, PIECE, "offset") \
    X(PIECE_SIZE, PIECE, "size")

/* Numbers that the Python code names, and as what they are handed in. */
#define NUMBERS_OF(X) \
    X(IDLE, "idle") \
    X(TRYING, "trying") \
    X(QUEUED, "queued") \
    X(DONE, "done") \
    X(ABORTED, "aborted") \
    X(IN_STEP, "step") \
    X(NOTED, "noted") \
    X(BUSY, "busy") \
    X(SUCCESS, "success") \
    X(PLAIN_FLAGS, "plain_flags") \
    X(OPERATION_WEIGHT, "operation_weight") \
    X(OPERATION_COST, "operation_cost") \
    X(MAX_PIECES, "max_pieces") \
    X(JOIN_PIECE_SIZE, "join_piece_size") \
    X(JOIN_TOTAL, "join_total") \
    X(RETRIES, "retries") \
    X(STARTS_PER_LOOK, "starts_per_look")

/* The methods that are gone here: a name in here, the class, the name, its parameters. */
#define METHODS_OF(X) \
    X(SEND_ASYNC, SOCKET, send_async, "($self, args)") \
    X(BEGIN_SEND, SOCKET, begin_send, \
      "($self, buffer_or_list, offset=0, size=None, socket_flags=SocketFlags.NONE, callback=None, state=None)") \
    X(END_SEND_NOWAIT, SOCKET, end_send_nowait, "($self, ar)") \
    X(SET_BUFFER, ARGS, set_buffer, "($self, buffer, offset=0, count=None)") \
    X(SET_LIST, ARGS, _set_list, "($self, buffers)") \
    X(ATTEMPT_RUN, QUEUE, _attempt_run, "($self, head)") \
    X(DRAIN, QUEUE, drain, "($self, allowance)") \
    X(FETCH, POLLSET, fetch, "($self)") \
    X(SILENCE, POLLSET, silence, "($self, fd, queue)") \
    X(TELL, OPERATION, tell, "($self, dispatcher)")

#define INDEX(index, ...) index,
enum { CLASSES_OF(INDEX) CLASSES };
enum { ATTRIBUTES_OF(INDEX) ATTRIBUTES };
enum { NUMBERS_OF(INDEX) NUMBERS };
enum { METHODS_OF(INDEX) METHODS };

#define NAME(index, name) [index] = name,
static const char *const class_names[CLASSES] = {CLASSES_OF(NAME)};
static const char *const number_names[NUMBERS] = {NUMBERS_OF(NAME)};

#define PLACE(index, class, name) [index] = {class, name},
static const struct {
    int class;
    const char *name;
} attributes[ATTRIBUTES] = {ATTRIBUTES_OF(PLACE)};

static PyTypeObject *classes[CLASSES];
static Py_ssize_t offsets[ATTRIBUTES];
static Py_ssize_t values[NUMBERS];
static PyObject *objects[NUMBERS];
static PyObject *in_python[METHODS];

#define AT(object, attribute) (*(PyObject **)((char *)(object) + offsets[attribute]))

/* What else is needed, held for ever. Of the small numbers Python has one object each. */
static PyObject *current_owner, *no_flags, *send_kind, *no_seconds, *no_size, *package;
static PyObject *ending_owners, *call_unprotected, *current_trio_token;
static PyObject *pace_of_starts; /* the names of the module that says how many starts may go by between two yields */
static PyObject *numbers[LARGEST_BUDGET + 1];
static PyObject *name_account, *name_arm_again, *name_begin_send_stuck, *name_end_attempt, *name_finish;
static PyObject *name_finish_alone, *name_go_on, *name_go_on_alone, *name_handler_begins, *name_is_completed;
static PyObject *name_keep, *name_post, *name_send_async_ended, *name_send_async_stuck, *name_start_budget;
static PyObject *name_tell, *name_unwatch, *name_wake, *name_watch_first, *name_weigh;
static PyMethodDef *send_of_sockets;
static PyTypeObject *epoll_class; /* NULL where there is none */
static int plain_flags;

static inline int
is_a(PyObject *object, int class)
{
    return object != NULL && PyObject_TypeCheck(object, classes[class]);
}

static inline int
is_exactly(PyObject *object, int class)
{
    return object != NULL && Py_TYPE(object) == classes[class];
}

/* Set an attribute to an object whose reference is handed over. */
static inline void
put(PyObject *object, int attribute, PyObject *value)
{
    PyObject *before = AT(object, attribute);
    AT(object, attribute) = value;
    Py_XDECREF(before);
}

/* Set an attribute that mostly is what it is to be already. */
static inline void
set(PyObject *object, int attribute, PyObject *value)
{
    if (AT(object, attribute) != value) {
        put(object, attribute, Py_NewRef(value));
    }
}

/* The value of a number that is not negative; -1, and no exception, for anything else. */
static inline Py_ssize_t
size_of(PyObject *number)
{
    if (number == NULL || !PyLong_CheckExact(number)) {
        return -1;
    }
    /* Most of them have one digit, or none, and need no call. */
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        Py_ssize_t small = PyUnstable_Long_CompactValue((PyLongObject *)number);
        return small < 0 ? -1 : small;
    }
#else
    if (Py_SIZE(number) == 1) {
        return ((PyLongObject *)number)->ob_digit[0];
    }
#endif
    Py_ssize_t value = PyLong_AsSsize_t(number);
    if (value < 0) {
        PyErr_Clear();
        return -1;
    }
    return value;
}

/* A number that is so much larger than another one; NULL, and perhaps an exception, if there is none. */
static inline PyObject *
more(PyObject *number, Py_ssize_t by)
{
    Py_ssize_t value = size_of(number);

    return value < 0 || value > PY_SSIZE_T_MAX - by ? NULL : PyLong_FromSsize_t(value + by);
}

static inline int
is_watched(PyObject *instruments)
{
    if (!is_exactly(instruments, INSTRUMENTS)) {
        return 1;
    }
    PyObject *watching = AT(instruments, INSTRUMENTS_WATCHING);
    return watching == NULL || !PyTuple_CheckExact(watching) || PyTuple_GET_SIZE(watching) != 0;
}

/* Call the method in Python with the arguments as they came. */
static PyObject *
hand_over(int method, PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *few[12], **all = few;
    Py_ssize_t total = 1 + count + (names == NULL ? 0 : PyTuple_GET_SIZE(names));

    if (total > 12 && (all = PyMem_New(PyObject *, total)) == NULL) {
        return PyErr_NoMemory();
    }
    all[0] = self;
    for (Py_ssize_t i = 1; i < total; i++) {
        all[i] = arguments[i - 1];
    }
    PyObject *answer = PyObject_Vectorcall(in_python[method], all, (size_t)(1 + count), names);
    if (all != few) {
        PyMem_Free(all);
    }
    return answer;
}

/* -- how many starts may go by --------------------------------------------------------------------------------- */

/* Tell whether it is certain that no third of the stack is used; how much is, is for Python to say. */
static inline int
is_shallow(void)
{
    PyThreadState *state = PyThreadState_Get();
    int limit = Py_GetRecursionLimit();

#if PY_VERSION_HEX >= 0x030C0000
    int depth = state->py_recursion_limit - state->py_recursion_remaining;
#elif PY_VERSION_HEX >= 0x030B0000
    int depth = state->recursion_limit - state->recursion_remaining;
#else
    int depth = state->recursion_depth;
#endif
    return depth < limit / 3;
}

/* Let there be starts up to the next look at the stack, as the owner does in Python; return how many there are now. */
static Py_ssize_t
refill(PyObject *owner)
{
    Py_ssize_t reserve = size_of(AT(owner, OWNER_RESERVE)), look = values[STARTS_PER_LOOK];

    if (reserve <= 0 || !is_shallow()) {
        return 0;
    }
    Py_ssize_t budget = (reserve - 1) % look + 1;
    if (budget > LARGEST_BUDGET || reserve - budget > LARGEST_BUDGET) {
        return 0;
    }
    set(owner, OWNER_BUDGET, numbers[budget]);
    set(owner, OWNER_RESERVE, numbers[reserve - budget]);
    return budget;
}

/* -- one attempt ----------------------------------------------------------------------------------------------- */

/* A start for which the short way is open, and what it needs. The objects are held by others, and by this as well once
   anything else can run. */
typedef struct {
    PyObject *socket;
    PyObject *queue;
    PyObject *owner;
    PyObject *sock; /* the socket object of the standard library */
    PyObject *buffer;
    Py_buffer view; /* of a buffer that can change; its `obj` is NULL if there is none */
    const char *data;
    Py_ssize_t size;
    Py_ssize_t budget;
    PyObject *accepted_after; /* what the queue will have accepted if all of it is; this one is owned */
} Start;

/* Find the bytes of a range of a buffer, or of all behind its begin; return whether they are there.

   Buffers of these types run no code of the program when they are looked at. */
static inline int
find_bytes(Start *start, PyObject *buffer, Py_ssize_t offset, Py_ssize_t size, int is_rest)
{
    Py_ssize_t length;
    const char *data;

    if (buffer == NULL) {
        return 0;
    }
    if (PyBytes_CheckExact(buffer)) {
        data = PyBytes_AS_STRING(buffer);
        length = PyBytes_GET_SIZE(buffer);
    }
    else if (PyByteArray_CheckExact(buffer)) {
        data = PyByteArray_AS_STRING(buffer);
        length = PyByteArray_GET_SIZE(buffer);
    }
    else if (PyMemoryView_Check(buffer)) { /* which has no subclasses */
        Py_buffer *shape = PyMemoryView_GET_BUFFER(buffer);
        if (shape->ndim != 1 || shape->itemsize != 1) {
            return 0;
        }
        if (PyObject_GetBuffer(buffer, &start->view, PyBUF_SIMPLE) < 0) {
            PyErr_Clear(); /* released, or not contiguous */
            return 0;
        }
        data = start->view.buf;
        length = start->view.len;
    }
    else {
        return 0;
    }
    if (is_rest) {
        size = length - offset;
    }
    if (offset > length || size < 0 || size > length - offset) {
        return 0;
    }
    start->buffer = buffer;
    start->data = data + offset;
    start->size = size;
    return 1;
}

static inline void
release_view(Start *start)
{
    if (start->view.obj != NULL) {
        PyBuffer_Release(&start->view);
    }
}

/* The socket object behind what a port sends with; NULL unless that is the system's own method. A port of the program's
   own has another one, and so has a socket of a class of its own. */
static inline PyObject *
sock_of(PyObject *send_method)
{
    if (send_method == NULL || !PyCFunction_CheckExact(send_method)
        || ((PyCFunctionObject *)send_method)->m_ml != send_of_sockets) {
        return NULL;
    }
    return ((PyCFunctionObject *)send_method)->m_self;
}

/* Look at an owner that was not found fit for a socket yet, as `require_usable` and `require_owner` do in Python. If all is
   as usual it is fit from now on, and the answer is 1; if not, nothing was changed. Returns -1 with an exception that has
   struck. */
static int
find_fit(PyObject *socket)
{
    PyObject *core = AT(socket, SOCKET_CORE), *owner = NULL;
    int found = 0;

    if (!is_exactly(core, CORE)) {
        return 0;
    }
    PyObject *checked = AT(core, CORE_CHECKED);
    if (PyContextVar_Get(current_owner, NULL, &owner) < 0 || owner == NULL || owner == checked
        || !is_exactly(owner, SCOPE_OWNER)) {
        PyErr_Clear();
        Py_XDECREF(owner);
        return 0;
    }
    /* This runs Python code, in which finalisers and Ctrl-C may strike; so all the looks come behind it. */
    PyObject *token = PyObject_CallNoArgs(current_trio_token);
    if (token == NULL && !PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        Py_DECREF(owner);
        return -1;
    }
    PyErr_Clear(); /* outside of Trio there is none */
    PyObject *queue = AT(core, CORE_SENDS), *before = AT(core, CORE_TOKEN), *thread = AT(core, CORE_THREAD);
    PyObject *inbox = AT(owner, OWNER_INBOX), *instruments = AT(owner, SCOPE_INSTRUMENTS);
    if (token != NULL && AT(core, CORE_CHECKED) == checked && is_exactly(queue, QUEUE)
        && AT(queue, QUEUE_GATE) == numbers[0] && size_of(AT(owner, OWNER_BUDGET)) >= 0
        && AT(owner, OWNER_ADOPTED_BY) == Py_None && is_exactly(inbox, INBOX)
        && AT(inbox, INBOX_TOKEN) == token && (before == Py_None || before == token)
        && thread != NULL && PyLong_CheckExact(thread)
        && PyLong_AsUnsignedLongMask(thread) == PyThread_get_thread_ident()
        && PyObject_RichCompareBool(thread, AT(owner, OWNER_TRIO_THREAD), Py_EQ) == 1
        && is_exactly(instruments, INSTRUMENTS)) {
        PyObject *number = before == token ? NULL : PyIter_Next(AT(instruments, INSTRUMENTS_SOCKETS));
        if (before == token || number != NULL) {
            Py_INCREF(owner);
            AT(core, CORE_CHECKED) = owner;
            if (number != NULL) {
                AT(core, CORE_TOKEN) = Py_NewRef(token);
                put(queue, QUEUE_SOCKET_ID, number);
                set(queue, QUEUE_INSTRUMENTS, instruments);
                Py_DECREF(before);
            }
            Py_DECREF(checked);
            found = 1;
        }
    }
    PyErr_Clear();
    Py_XDECREF(token);
    Py_DECREF(owner);
    return found;
}

/* Look at who starts and where; return whether that is as it was found fit before. Runs no code of Python's. */
static inline int
is_fit(Start *start)
{
    PyObject *core = AT(start->socket, SOCKET_CORE);
    PyObject *owner = NULL;

    if (!is_exactly(core, CORE)) {
        return 0;
    }
    if (PyContextVar_Get(current_owner, NULL, &owner) < 0) {
        PyErr_Clear();
        return 0;
    }
    if (owner == NULL) {
        return 0;
    }
    Py_DECREF(owner); /* the context holds it, and so does the socket if it is the one */
    if (owner != AT(core, CORE_CHECKED) || !(is_exactly(owner, SCOPE_OWNER) || is_a(owner, OWNER))) {
        return 0;
    }
    PyObject *thread = AT(core, CORE_THREAD);
    if (thread == NULL || !PyLong_CheckExact(thread)
        || PyLong_AsUnsignedLongMask(thread) != PyThread_get_thread_ident()) {
        return 0;
    }
    start->budget = size_of(AT(owner, OWNER_BUDGET));
    start->owner = owner;
    start->queue = AT(core, CORE_SENDS);
    start->sock = sock_of(AT(core, CORE_SEND));
    return start->budget >= 0 && start->budget <= LARGEST_BUDGET && start->sock != NULL
           && is_exactly(start->queue, QUEUE);
}

/* Look whether there is nothing in front; return whether the attempt can be made. */
static inline int
is_open(Start *start)
{
    if (AT(start->queue, QUEUE_GATE) != numbers[0]) {
        return 0;
    }
    start->accepted_after = more(AT(start->queue, QUEUE_ACCEPTED), start->size);
    if (start->accepted_after == NULL) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static inline int
descriptor_of(PyObject *sock)
{
    return *(int *)((char *)sock + sizeof(PyObject));
}

static inline Py_ssize_t
send_once(PyObject *sock, const char *data, Py_ssize_t size, int *error)
{
    int descriptor = descriptor_of(sock);
    Py_ssize_t sent;

    do {
        sent = send(descriptor, data, (size_t)size, plain_flags);
    } while (sent < 0 && errno == EINTR);
    *error = errno;
    return sent;
}

/* Hold what is needed, and begin a step: from here on other threads may run, and finalisers. */
static void
begin_step(Start *start, PyObject *operation)
{
    Py_INCREF(start->queue);
    Py_INCREF(start->owner);
    Py_INCREF(start->sock);
    Py_INCREF(start->buffer);
    set(start->queue, QUEUE_GATE, objects[IN_STEP]);
    if (operation != NULL) {
        set(operation, STATE, objects[TRYING]);
    }
}

/* Let go of what is held. That may run finalisers, so nothing may stand between two states. */
static void
let_go(Start *start)
{
    release_view(start);
    Py_XDECREF(start->accepted_after);
    Py_DECREF(start->buffer);
    Py_DECREF(start->sock);
    Py_DECREF(start->queue);
    Py_DECREF(start->owner);
}

/* Make the attempt of a start whose way is open.

   A small message is sent before anything is noted, because nothing can run in between. If the kernel took all of it, and
   there is a start left in the budget, that is all, and the answer is true. Otherwise a step has begun, whoever called
   goes on with it, and lets go. */
static inline int
attempt(Start *start, PyObject *operation, Py_ssize_t *sent, int *error)
{
    if (start->size < RELEASE_SIZE) {
        *sent = send_once(start->sock, start->data, start->size, error);
        release_view(start);
        if (*sent == start->size) {
            put(start->queue, QUEUE_ACCEPTED, start->accepted_after);
            start->accepted_after = NULL;
            if (start->budget > 0 || (start->budget = refill(start->owner)) > 0) {
                set(start->owner, OWNER_BUDGET, numbers[start->budget - 1]);
                return 1;
            }
        }
        begin_step(start, operation);
        return 0;
    }
    begin_step(start, operation);
    if (PyByteArray_CheckExact(start->buffer)
        && PyObject_GetBuffer(start->buffer, &start->view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear(); /* it cannot be locked, so no other thread may run */
        *sent = send_once(start->sock, start->data, start->size, error);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        *sent = send_once(start->sock, start->data, start->size, error);
        Py_END_ALLOW_THREADS
    }
    release_view(start); /* for none outlives a system call */
    if (*sent == start->size) {
        put(start->queue, QUEUE_ACCEPTED, start->accepted_after);
        start->accepted_after = NULL;
    }
    return 0;
}

/* End a step in which nobody has asked for anything; or else have Python end it. Returns -1 with an exception. */
static inline int
end_attempt(PyObject *queue)
{
    Py_ssize_t gate = size_of(AT(queue, QUEUE_GATE));

    if (gate >= 0 && gate <= LARGEST_BUDGET && !(gate & values[NOTED])
        && AT(queue, QUEUE_HELD) == Py_False) {
        set(queue, QUEUE_GATE, numbers[gate & ~values[IN_STEP]]);
        return 0;
    }
    PyObject *nothing = PyObject_CallMethodNoArgs(queue, name_end_attempt);
    Py_XDECREF(nothing);
    return nothing == NULL ? -1 : 0;
}

/* End a step in which there was an exception; the answer is always NULL. */
static PyObject *
end_with_error(PyObject *queue)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    if (end_attempt(queue) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
    }
    else {
        PyErr_Restore(type, error, traceback);
    }
    return NULL;
}

/* End a step of which nothing can be told, for want of memory for a number or an exception. */
static PyObject *
give_up(Start *start, PyObject *operation)
{
    PyErr_Clear();
    if (operation != NULL) {
        set(operation, STATE, objects[IDLE]);
    }
    return end_attempt(start->queue) < 0 ? NULL : PyErr_NoMemory();
}

static PyObject *
error_of(int number)
{
    PyObject *error = NULL, *text = PyUnicode_DecodeLocale(strerror(number), "surrogateescape");

    if (text != NULL) {
        error = PyObject_CallFunction(PyExc_OSError, "iO", number, text);
        Py_DECREF(text);
    }
    return error;
}

/* Count what was sent if that is not everything, and make an exception of the error if there is one.

   Returns whether there is memory for the number and the exception, which is None if there is none. */
static int
account(Start *start, Py_ssize_t sent, int error, PyObject **number, PyObject **exception)
{
    *number = PyLong_FromSsize_t(sent < 0 ? 0 : sent);
    PyObject *accepted =
        *number == NULL ? NULL : PyNumber_Add(AT(start->queue, QUEUE_ACCEPTED), *number);
    if (accepted != NULL) {
        put(start->queue, QUEUE_ACCEPTED, accepted);
        *exception = sent < 0 ? error_of(error) : Py_NewRef(Py_None);
        if (*exception != NULL) {
            return 1;
        }
    }
    Py_CLEAR(*number);
    return 0;
}

/* -- args ------------------------------------------------------------------------------------------------------ */

/* Tell whether something is to be called when an operation of args has ended; -1 if that is for Python to say. */
static inline int
is_listened_to(PyObject *operation)
{
    PyObject *event = AT(operation, EVENT_OF_ARGS), *is_overridden = AT(operation, IS_OVERRIDDEN);

    if (is_overridden != Py_False) {
        return is_overridden == Py_True ? 1 : -1;
    }
    if (event == Py_None) {
        return 0;
    }
    if (!is_exactly(event, EVENT)) {
        return -1;
    }
    PyObject *handlers = AT(event, EVENT_HANDLERS);
    return handlers == NULL || !PyTuple_CheckExact(handlers) ? -1 : PyTuple_GET_SIZE(handlers) != 0;
}

static inline int
is_known_message(PyObject *message)
{
    return is_exactly(message, WHOLE_BYTES) || is_exactly(message, MESSAGE);
}

/* Count one operation more, or less, that an owner has in a queue; return whether that was possible. */
static inline int
count_in_queue(PyObject *owner, PyObject *queue, int by)
{
    PyObject *queues = AT(owner, OWNER_QUEUES);

    if (queues == NULL || !PyDict_Check(queues)) {
        return 0;
    }
    PyObject *number = PyDict_GetItemWithError(queues, queue);
    if (number == NULL && PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    Py_ssize_t count = number == NULL ? 0 : size_of(number);
    if (count < 0 || count + by < 0) {
        return 0;
    }
    int failed;
    if (count + by == 0) {
        failed = PyDict_DelItem(queues, queue);
    }
    else if ((number = PyLong_FromSsize_t(count + by)) == NULL) {
        failed = -1;
    }
    else {
        failed = PyDict_SetItem(queues, queue, number);
        Py_DECREF(number);
    }
    if (failed < 0) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

/* Put an operation of args, or of a result without a callback, at the end of a queue, as one step in which nothing else
   can run.

   Either others wait there; or it is the first, and a step has begun with its first attempt, which has sent something or
   nothing. Returns whether that was done; if not, nothing was changed. */
static int
join(Start *start, PyObject *face, PyObject *operation, int is_first, Py_ssize_t sent)
{
    PyObject *queue = start->queue, *owner = start->owner, *context = NULL;
    PyObject *message = AT(operation, MESSAGE_OF_OPERATION);
    int is_args = is_exactly(operation, OPERATION);
    int listened_to = is_args ? is_listened_to(operation) : 0;

    if (!is_known_message(message) || listened_to < 0) {
        return 0;
    }
    Py_INCREF(queue);
    Py_INCREF(owner);
    Py_INCREF(operation);
    Py_INCREF(message);
    if (listened_to && AT(operation, FLOWS_CONTEXT) != Py_False) {
        context = PyContext_CopyCurrent(); /* before the last looks, because it may run finalisers */
        if (context == NULL) {
            PyErr_Clear();
            listened_to = -1;
        }
    }
    enum {
        ACTIVATION_AFTER,
        LENGTH_AFTER,
        STARTED_AFTER,
        GOAL_AFTER,
        OFFERED_AFTER,
        OWNED_AFTER,
        EARLY_AFTER,
        ACCEPTED_AFTER,
        TRANSFERRED_AFTER,
        MADE
    };
    PyObject *made[MADE] = {NULL};
    PyObject *tail = AT(queue, QUEUE_TAIL), *marks = AT(queue, QUEUE_MARKS);
    Py_ssize_t rest = size_of(AT(message, MESSAGE_SIZE)) - sent;
    Py_ssize_t reserve = size_of(AT(owner, OWNER_RESERVE));
    Py_ssize_t most = size_of(PyDict_GetItem(pace_of_starts, name_start_budget));
    Py_ssize_t budget = size_of(AT(owner, OWNER_BUDGET));
    int done = 0;

    if (AT(queue, QUEUE_GATE) != objects[is_first ? IN_STEP : BUSY]
        || AT(operation, STATE) != objects[is_first ? TRYING : IDLE]
        || (is_first && (tail != Py_None || AT(queue, QUEUE_WATCHER) != Py_None))
        || AT(operation, MESSAGE_OF_OPERATION) != message || AT(operation, LIMITS) != Py_None
        || AT(queue, QUEUE_TORN) != Py_None || is_watched(AT(queue, QUEUE_INSTRUMENTS))
        || !is_exactly(marks, MARKS) || AT(marks, MARKS_REFUSES) != Py_False
        || (!is_first && !is_a(tail, RECORD)) || rest < 0 || reserve < 0 || budget < 0
        || most < values[STARTS_PER_LOOK] || most - values[STARTS_PER_LOOK] > LARGEST_BUDGET
        || budget + reserve > most || listened_to < 0
        || (is_args && is_listened_to(operation) != listened_to)) {
        goto out;
    }
    made[ACTIVATION_AFTER] = more(AT(operation, ACTIVATION), 1);
    made[LENGTH_AFTER] = more(AT(queue, QUEUE_LENGTH), 1);
    made[STARTED_AFTER] = more(AT(queue, QUEUE_STARTED), 1);
    made[ACCEPTED_AFTER] = more(AT(queue, QUEUE_ACCEPTED), sent);
    made[TRANSFERRED_AFTER] = PyLong_FromSsize_t(sent);
    made[GOAL_AFTER] = more(is_first ? made[ACCEPTED_AFTER] : AT(marks, MARKS_GOAL), rest);
    made[OFFERED_AFTER] = more(AT(queue, QUEUE_OFFERED), rest);
    made[OWNED_AFTER] = more(AT(owner, OWNER_STARTED), 1);
    made[EARLY_AFTER] = more(AT(owner, OWNER_ENDED_ON_THE_SPOT), most - budget - reserve);
    for (int i = 0; i < MADE; i++) {
        if (made[i] == NULL) {
            PyErr_Clear();
            goto out;
        }
    }
    Py_ssize_t waiting = size_of(made[GOAL_AFTER]) - size_of(made[ACCEPTED_AFTER]);
    Py_ssize_t high = size_of(AT(marks, MARKS_HIGH));
    if (high < 0 || !count_in_queue(owner, queue, 1)) {
        goto out;
    }
    done = 1;
    /* What was there before is let go of last of all. */
    PyObject *before[] = {
        AT(operation, SOCKET_OF_OPERATION), AT(operation, FACE), AT(operation, STEP), AT(operation, ADDRESS),
        AT(operation, QUEUE_OF_OPERATION), AT(operation, OWNER_OF_OPERATION), AT(operation, DETAIL),
        AT(operation, CONTEXT),
    };
    AT(operation, SOCKET_OF_OPERATION) = Py_NewRef(start->socket);
    AT(operation, FACE) = Py_NewRef(face);
    AT(operation, STEP) = Py_NewRef(Py_None);
    AT(operation, ADDRESS) = Py_NewRef(Py_None);
    AT(operation, QUEUE_OF_OPERATION) = Py_NewRef(queue);
    AT(operation, OWNER_OF_OPERATION) = Py_NewRef(owner);
    AT(operation, DETAIL) = Py_NewRef(Py_None);
    if (context == NULL) {
        before[7] = NULL; /* it stays */
    }
    else {
        AT(operation, CONTEXT) = Py_NewRef(context);
    }
    set(operation, CONTINUES, Py_False);
    set(operation, IS_FRESH, Py_False);
    if (is_args) {
        set(operation, SETTLED, no_size);
    }
    put(operation, TRANSFERRED, made[TRANSFERRED_AFTER]);
    set(operation, CODE, objects[SUCCESS]);
    set(operation, ERROR_NUMBER, numbers[0]);
    set(operation, KIND, send_kind);
    set(operation, FLAGS, objects[PLAIN_FLAGS]);
    set(operation, STATE, objects[QUEUED]);
    put(operation, ACTIVATION, made[ACTIVATION_AFTER]);
    if (is_first) {
        put(queue, QUEUE_HEAD, Py_NewRef(operation));
        set(queue, QUEUE_GATE, numbers[values[BUSY] | values[IN_STEP]]);
    }
    else {
        put(operation, PREVIOUS, Py_NewRef(tail));
        put(tail, NEXT, Py_NewRef(operation));
        set(queue, QUEUE_HALTED, Py_False);
    }
    put(queue, QUEUE_TAIL, Py_NewRef(operation));
    put(queue, QUEUE_ACCEPTED, made[ACCEPTED_AFTER]);
    put(queue, QUEUE_LENGTH, made[LENGTH_AFTER]);
    put(queue, QUEUE_STARTED, made[STARTED_AFTER]);
    put(queue, QUEUE_OFFERED, made[OFFERED_AFTER]);
    put(marks, MARKS_GOAL, made[GOAL_AFTER]);
    if (waiting + size_of(AT(queue, QUEUE_LENGTH)) * values[OPERATION_WEIGHT] > high) {
        set(marks, MARKS_IS_ABOVE, Py_True);
    }
    if (is_first && sent > 0) { /* the attempt that would follow is left out */
        PyObject *refills = AT(queue, QUEUE_REFILLS);
        set(refills, TRIES_SKIPS, numbers[size_of(AT(refills, TRIES_SKIPS)) - 1]);
    }
    put(owner, OWNER_STARTED, made[OWNED_AFTER]);
    put(owner, OWNER_ENDED_ON_THE_SPOT, made[EARLY_AFTER]);
    set(owner, OWNER_BUDGET, numbers[values[STARTS_PER_LOOK]]);
    set(owner, OWNER_RESERVE, numbers[most - values[STARTS_PER_LOOK]]);
    memset(made, 0, sizeof made);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        Py_XDECREF(before[i]);
    }
out:
    for (int i = 0; i < MADE; i++) {
        Py_XDECREF(made[i]);
    }
    Py_XDECREF(context);
    Py_DECREF(message);
    Py_DECREF(operation);
    Py_DECREF(owner);
    Py_DECREF(queue);
    return done;
}

/* Have the engine's set watch the socket of a queue, which changes nothing that anybody sees, and wakes nobody.

   Returns whether it does; if not, nothing was changed. */
static int
arm(PyObject *engine, PyObject *queue, int descriptor)
{
#ifdef __linux__
    PyObject *pollset, *readers, *writers, *tries, *armed, *number, *reader, *writer;

    if (!is_exactly(engine, ENGINE)
        || (AT(engine, ENGINE_DOZES) != Py_False
            && PyObject_Size(AT(engine, ENGINE_TURNS)) < values[RETRIES]) /* then it is woken */
        || AT(queue, QUEUE_HOPEFUL) != Py_False
        || !is_exactly(pollset = AT(engine, ENGINE_POLLSET), POLLSET)
        || !Py_IS_TYPE(AT(pollset, POLLSET_EPOLL), epoll_class)
        || !PyDict_CheckExact(readers = AT(pollset, POLLSET_READERS))
        || !PyDict_CheckExact(writers = AT(pollset, POLLSET_WRITERS))
        || !is_exactly(tries = AT(engine, ENGINE_TRIES), TRIES)) {
        return 0;
    }
    Py_ssize_t skips = size_of(AT(tries, TRIES_SKIPS));
    if (skips < 0 || skips > LARGEST_BUDGET || (number = PyLong_FromLong(descriptor)) == NULL) {
        PyErr_Clear();
        return 0;
    }
    armed = more(AT(pollset, POLLSET_ARMED), 1);
    reader = PyDict_GetItemWithError(readers, number);
    writer = PyDict_GetItemWithError(writers, number);
    int is_armed = 0, is_known = reader != NULL || writer != NULL;
    if (armed != NULL && (reader == NULL || reader == Py_None)
        && (writer == NULL || writer == Py_None) && PyDict_SetItem(writers, number, queue) == 0) {
        int epoll = (int)size_of(AT(pollset, POLLSET_FD));
        struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = descriptor};
        is_armed = epoll_ctl(epoll, is_known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, descriptor, &event) == 0
                   || (is_known && errno == ENOENT
                       && epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0);
        if (is_armed) {
            put(pollset, POLLSET_ARMED, Py_NewRef(armed));
            put(queue, QUEUE_WATCHED, Py_NewRef(pollset));
            if (skips > 0) {
                set(tries, TRIES_SKIPS, numbers[skips - 1]);
            }
        }
        else if (writer == NULL) {
            (void)PyDict_DelItem(writers, number);
        }
        else {
            (void)PyDict_SetItem(writers, number, Py_None);
        }
    }
    PyErr_Clear();
    Py_XDECREF(armed);
    Py_DECREF(number);
    return is_armed;
#else
    (void)engine, (void)queue, (void)descriptor;
    return 0;
#endif
}

/* Have the socket watched for the operation that has joined an empty queue, and end the step. */
static PyObject *
watch_first(Start *start)
{
    PyObject *queue = start->queue, *owner = start->owner;

    if (is_exactly(owner, SCOPE_OWNER) && AT(queue, QUEUE_WATCHED) == Py_None
        && PyFloat_CheckExact(AT(queue, QUEUE_BACKOFF))
        && PyFloat_AS_DOUBLE(AT(queue, QUEUE_BACKOFF)) == 0
        && is_exactly(AT(queue, QUEUE_PORT), PORT)
        && AT(queue, QUEUE_GATE) == numbers[values[BUSY] | values[IN_STEP]]
        && arm(AT(owner, SCOPE_ENGINE), queue, descriptor_of(start->sock))) {
        put(queue, QUEUE_WATCHER, Py_NewRef(owner));
    }
    else {
        PyObject *nothing = PyObject_CallMethodNoArgs(queue, name_watch_first);
        if (nothing == NULL) {
            return end_with_error(queue);
        }
        Py_DECREF(nothing);
    }
    return end_attempt(queue) < 0 ? NULL : Py_NewRef(Py_True);
}

/* Answer "pending" for args all of which was sent, because the budget is spent, and hold their end back. What is done is
   what `ExitingOwner.pace` does where nobody has to be called.

   Returns whether that was done; if not, nothing was changed. */
static int
pace(Start *start, PyObject *args, PyObject *operation)
{
    PyObject *owner = start->owner, *queue = start->queue;
    Py_ssize_t most = size_of(PyDict_GetItem(pace_of_starts, name_start_budget));

    if (AT(queue, QUEUE_GATE) != objects[IN_STEP] || AT(operation, STATE) != objects[TRYING]
        || !is_exactly(owner, SCOPE_OWNER) || AT(owner, OWNER_BUDGET) != numbers[0]
        || AT(owner, OWNER_RESERVE) != numbers[0] || AT(owner, OWNER_HELD) != Py_None
        || AT(owner, OWNER_STOPPED) != Py_None || AT(owner, OWNER_IS_EXITING) != Py_False
        || is_watched(AT(queue, QUEUE_INSTRUMENTS)) || is_listened_to(operation) != 0
        || AT(queue, QUEUE_TORN) != Py_None || most < values[STARTS_PER_LOOK]
        || most - values[STARTS_PER_LOOK] > LARGEST_BUDGET) {
        return 0;
    }
    PyObject *activation = more(AT(operation, ACTIVATION), 1);
    PyObject *early = more(AT(owner, OWNER_ENDED_ON_THE_SPOT), most + 1);
    if (activation == NULL || early == NULL) {
        PyErr_Clear();
        Py_XDECREF(activation);
        Py_XDECREF(early);
        return 0;
    }
    set(queue, QUEUE_GATE, numbers[0]);
    put(owner, OWNER_ENDED_ON_THE_SPOT, early);
    set(owner, OWNER_BUDGET, numbers[values[STARTS_PER_LOOK]]);
    set(owner, OWNER_RESERVE, numbers[most - values[STARTS_PER_LOOK]]);
    put(operation, ACTIVATION, activation);
    set(operation, STATE, objects[DONE]);
    put(owner, OWNER_HELD, Py_NewRef(operation));
    PyObject *before[] = {
        AT(operation, SOCKET_OF_OPERATION),
        AT(operation, FACE),
        AT(operation, QUEUE_OF_OPERATION),
        AT(operation, OWNER_OF_OPERATION),
    };
    AT(operation, SOCKET_OF_OPERATION) = Py_NewRef(start->socket);
    AT(operation, FACE) = Py_NewRef(args);
    AT(operation, QUEUE_OF_OPERATION) = Py_NewRef(queue);
    AT(operation, OWNER_OF_OPERATION) = Py_NewRef(owner);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        Py_XDECREF(before[i]);
    }
    return 1;
}

/* Tell whether all that is to be done after a first attempt is to wait for room. */
static inline int
lacks_room(PyObject *queue, Py_ssize_t sent, int error)
{
    if (sent < 0) {
        return error == EAGAIN || error == EWOULDBLOCK;
    }
    /* Another attempt follows one that was accepted in part, unless that is left out. */
    PyObject *refills = AT(queue, QUEUE_REFILLS);
    Py_ssize_t skips = is_exactly(refills, TRIES) ? size_of(AT(refills, TRIES_SKIPS)) : 0;
    return sent > 0 && skips > 0;
}

/* Go on with args behind an attempt in a step. */
static PyObject *
go_on_with_args(Start *start, PyObject *args, Py_ssize_t sent, int error)
{
    PyObject *operation = AT(args, ARGS_OPERATION);
    PyObject *answer = NULL, *number, *exception;

    if (sent == start->size) {
        Py_ssize_t budget = size_of(AT(start->owner, OWNER_BUDGET));
        if (AT(start->queue, QUEUE_GATE) == objects[IN_STEP] && budget > 0
            && budget <= LARGEST_BUDGET) {
            set(start->queue, QUEUE_GATE, numbers[0]);
            set(start->owner, OWNER_BUDGET, numbers[budget - 1]);
            set(operation, STATE, objects[IDLE]);
            answer = Py_NewRef(Py_False);
        }
        else if (pace(start, args, operation)) {
            answer = Py_NewRef(Py_True);
        }
        else { /* another thread has done something meanwhile, or somebody has to be told */
            answer = PyObject_CallMethodObjArgs(start->socket, name_send_async_ended, args,
                                                start->owner, NULL);
        }
    }
    else if (lacks_room(start->queue, sent, error)
             && join(start, args, operation, 1, sent < 0 ? 0 : sent)) {
        answer = watch_first(start);
    }
    else if (account(start, sent, error, &number, &exception)) {
        answer = PyObject_CallMethodObjArgs(start->socket, name_send_async_stuck, args,
                                            start->owner, number, exception, NULL);
        Py_DECREF(number);
        Py_DECREF(exception);
    }
    else {
        answer = give_up(start, operation);
    }
    let_go(start);
    return answer;
}

static PyObject *
send_async(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Start start;

    if (count != 1 || names != NULL || !is_a(self, SOCKET) || !is_a(arguments[0], ARGS)) {
        return hand_over(SEND_ASYNC, self, arguments, count, names);
    }
    PyObject *args = arguments[0], *operation = AT(args, ARGS_OPERATION);
    if (!is_exactly(operation, OPERATION)) {
        return hand_over(SEND_ASYNC, self, arguments, count, names);
    }
    start.socket = self;
    start.view.obj = NULL;
    PyObject *buffer = AT(operation, DIRECT), *size_object = AT(operation, SIZE);
    Py_ssize_t size = size_of(size_object), offset = 0;
    if (buffer == Py_None) {
        buffer = AT(operation, PIECE_OF_OPERATION);
        if (is_exactly(buffer, PIECE) && size_of(AT(buffer, PIECE_SIZE)) == size) {
            offset = size_of(AT(buffer, PIECE_OFFSET));
            buffer = AT(buffer, PIECE_BUFFER);
        }
        else if (buffer == NULL || !PyByteArray_CheckExact(buffer)) {
            return hand_over(SEND_ASYNC, self, arguments, count, names);
        }
    }
    if (AT(operation, STATE) != objects[IDLE] || size < 0 || offset < 0) {
        return hand_over(SEND_ASYNC, self, arguments, count, names);
    }
    if (!is_fit(&start)) {
        int found = find_fit(self);
        return found < 0 ? NULL
               : found   ? send_async(self, arguments, count, names)
                         : hand_over(SEND_ASYNC, self, arguments, count, names);
    }
    if (AT(start.queue, QUEUE_GATE) == objects[BUSY]) {
        return join(&start, args, operation, 0, 0) ? Py_NewRef(Py_True)
                                                   : hand_over(SEND_ASYNC, self, arguments, count, names);
    }
    if (!find_bytes(&start, buffer, offset, size, 0) || !is_open(&start)) {
        release_view(&start);
        return hand_over(SEND_ASYNC, self, arguments, count, names);
    }

    Py_ssize_t sent;
    int error;
    Py_INCREF(size_object);
    int is_over = attempt(&start, operation, &sent, &error);
    if (sent == size && AT(operation, SETTLED) != size_object) {
        set(operation, TRANSFERRED, size_object);
        set(operation, SETTLED, size_object);
        set(operation, CODE, objects[SUCCESS]);
        set(operation, IS_FRESH, Py_False);
        set(operation, KIND, send_kind);
    }
    Py_DECREF(size_object);
    return is_over ? Py_NewRef(Py_False) : go_on_with_args(&start, args, sent, error);
}

/* Give args a message, which is looked at last of all by then, or hand the call over; in either case it is let go of.

   Of a buffer and a list, one is what was set, and the other one is None. */
static PyObject *
assign(int method, PyObject *self, PyObject *const *arguments, PyObject *buffer, PyObject *list, PyObject *message)
{
    PyObject *operation = AT(self, ARGS_OPERATION);

    if (message == NULL || !is_exactly(operation, OPERATION)
        || (list == Py_None && AT(operation, BUFFER_LIST) != Py_None)
        || (buffer == Py_None && AT(operation, BUFFER) != Py_None)
        || AT(operation, STATE) != objects[IDLE] || AT(operation, IS_CLOSED) != Py_False) {
        PyErr_Clear();
        Py_XDECREF(message);
        return hand_over(method, self, arguments, 1, NULL);
    }
    PyObject *data = AT(message, MESSAGE_DIRECT);
    PyObject *before[] = {
        AT(operation, BUFFER),
        AT(operation, BUFFER_LIST),
        AT(operation, PREPARED),
        AT(operation, MESSAGE_OF_OPERATION),
        AT(operation, SIZE),
        AT(operation, DIRECT),
        AT(operation, PIECE_OF_OPERATION),
    };
    AT(operation, BUFFER) = Py_NewRef(buffer);
    AT(operation, BUFFER_LIST) = Py_NewRef(list);
    AT(operation, PREPARED) = Py_NewRef(message);
    AT(operation, MESSAGE_OF_OPERATION) = message;
    AT(operation, SIZE) = Py_NewRef(AT(message, MESSAGE_SIZE));
    AT(operation, DIRECT) = Py_NewRef(AT(operation, SOCKET_FLAGS) == no_flags ? data : Py_None);
    AT(operation, PIECE_OF_OPERATION) = Py_NewRef(Py_None);
    set(operation, IS_FRESH, Py_True);
    set(operation, SETTLED, no_size);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        Py_XDECREF(before[i]);
    }
    Py_RETURN_NONE;
}

/* A message without values. To make one may run finalisers, so it is made before the last looks. */
static inline PyObject *
new_message(void)
{
    return classes[WHOLE_BYTES]->tp_alloc(classes[WHOLE_BYTES], 0);
}

/* Have a message say what is sent, whose reference is handed over. Runs nothing; returns NULL if there is no memory, or
   nothing to send. */
static PyObject *
fill(PyObject *message, PyObject *data)
{
    PyObject *size = data == NULL ? NULL : PyLong_FromSsize_t(PyBytes_GET_SIZE(data));

    if (message == NULL || size == NULL) {
        Py_XDECREF(message);
        Py_XDECREF(data);
        Py_XDECREF(size);
        return NULL;
    }
    AT(message, MESSAGE_DIRECT) = data;
    AT(message, MESSAGE_SIZE) = size;
    return message;
}

/* `set_buffer` of a whole `bytes` object, which programs do for each message. */
static PyObject *
set_buffer(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    if (count != 1 || names != NULL || !is_a(self, ARGS) || !PyBytes_CheckExact(arguments[0])) {
        return hand_over(SET_BUFFER, self, arguments, count, names);
    }
    PyObject *message = fill(new_message(), Py_NewRef(arguments[0]));
    return assign(SET_BUFFER, self, arguments, arguments[0], Py_None, message);
}

/* Put so many `bytes` objects together; NULL, and no exception, if one of them is something else, or that is too long. */
static PyObject *
join_bytes(PyObject *const *items, Py_ssize_t count)
{
    Py_ssize_t total = 0;

    if (count < 1 || count > values[MAX_PIECES]) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!PyBytes_CheckExact(items[i]) || PyBytes_GET_SIZE(items[i]) > JOIN_SIZE - total) {
            return NULL;
        }
        total += PyBytes_GET_SIZE(items[i]);
    }
    if (count == 1) {
        return Py_NewRef(items[0]);
    }
    PyObject *all = PyBytes_FromStringAndSize(NULL, total);
    if (all == NULL) {
        PyErr_Clear();
        return NULL;
    }
    char *place = PyBytes_AS_STRING(all);
    for (Py_ssize_t i = 0; i < count; i++) {
        memcpy(place, PyBytes_AS_STRING(items[i]), (size_t)PyBytes_GET_SIZE(items[i]));
        place += PyBytes_GET_SIZE(items[i]);
    }
    return all;
}

/* A list or tuple of `bytes` objects that are put together to be sent. */
static PyObject *
_set_list(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    if (count != 1 || names != NULL || !is_a(self, ARGS)
        || !(PyList_CheckExact(arguments[0]) || PyTuple_CheckExact(arguments[0]))) {
        return hand_over(SET_LIST, self, arguments, count, names);
    }
    PyObject *list = arguments[0], *message = new_message();
    message = fill(message, join_bytes(PySequence_Fast_ITEMS(list), PySequence_Fast_GET_SIZE(list)));
    return assign(SET_LIST, self, arguments, Py_None, list, message);
}

/* -- results --------------------------------------------------------------------------------------------------- */

/* Results of sends that ended on the spot live for a moment, one after the other. So some are kept to be used again. */
#define MOST_SPARE 64

static PyObject *spare; /* each holds the next one as its origin */
static int spare_count;

static const int fields_of_results[] = {
    RESULT_ORIGIN, RESULT_ASYNC_STATE, RESULT_TRANSFERRED, RESULT_IS_TAKEN, RESULT_HANDLE,
    RESULT_OPERATION_OF,
};

#define FIELDS_OF_RESULTS (sizeof fields_of_results / sizeof *fields_of_results)

static void
free_result(PyObject *result)
{
    PyTypeObject *class = Py_TYPE(result);

    PyObject_GC_UnTrack(result);
    Py_TRASHCAN_BEGIN(result, free_result)
    if (*(PyObject **)((char *)result + class->tp_weaklistoffset) != NULL) {
        PyObject_ClearWeakRefs(result);
    }
    for (size_t i = 0; i < FIELDS_OF_RESULTS; i++) {
        Py_CLEAR(AT(result, fields_of_results[i]));
    }
    if (spare_count < MOST_SPARE && class == classes[RESULT]) {
        AT(result, RESULT_ORIGIN) = spare;
        spare = result;
        spare_count++;
    }
    else {
        PyObject_GC_Del(result);
        Py_DECREF(class);
    }
    Py_TRASHCAN_END
}

/* Every program asks a result whether it is completed. It always is, and Python would look for that in two classes. */
static PyObject *
get_of_result(PyObject *result, PyObject *name)
{
    return name == name_is_completed ? Py_NewRef(Py_True) : PyObject_GenericGetAttr(result, name);
}

/* Return a result without values, which the collector of garbage does not know yet. */
static inline PyObject *
new_result(void)
{
    PyObject *result = spare;

    if (result == NULL) {
        result = classes[RESULT]->tp_alloc(classes[RESULT], 0);
        if (result != NULL) {
            PyObject_GC_UnTrack(result);
        }
        return result;
    }
    spare = AT(result, RESULT_ORIGIN);
    spare_count--;
    AT(result, RESULT_ORIGIN) = NULL;
    _Py_NewReference(result);
    return result;
}

/* Go on behind an attempt in a step that `begin_send` has begun; the result is for one that sent everything. */
static PyObject *
go_on_with_result(Start *start, PyObject *result, PyObject *state, Py_ssize_t offset,
                  Py_ssize_t sent, int error)
{
    PyObject *number, *exception;

    if (sent == start->size) {
        if (end_attempt(start->queue) < 0) {
            Py_CLEAR(result);
        }
        else {
            Py_ssize_t budget = size_of(AT(start->owner, OWNER_BUDGET));
            if (budget > 0 && budget <= LARGEST_BUDGET) { /* or another thread has spent it */
                set(start->owner, OWNER_BUDGET, numbers[budget - 1]);
            }
        }
        let_go(start);
        return result;
    }
    Py_DECREF(result);
    result = NULL;
    PyObject *begin = PyLong_FromSsize_t(offset), *length = PyLong_FromSsize_t(start->size);
    if (begin != NULL && length != NULL && account(start, sent, error, &number, &exception)) {
        result = PyObject_CallMethodObjArgs(start->socket, name_begin_send_stuck, start->buffer,
                                            begin, length, state, start->owner, number,
                                            exception, NULL);
        Py_DECREF(number);
        Py_DECREF(exception);
    }
    else {
        result = give_up(start, NULL);
    }
    Py_XDECREF(begin);
    Py_XDECREF(length);
    let_go(start);
    return result;
}

/* Put a send at the end of a queue in which others wait; return its result.

   Returns NULL if that was not done, and nothing was changed: with an exception, or else it is for Python to do. */
static PyObject *
begin_behind_others(Start *start, PyObject *data, PyObject *state)
{
    PyObject *socket = start->socket, *queue = start->queue, *owner = start->owner, *result = NULL;
    PyObject *token = AT(AT(socket, SOCKET_CORE), CORE_TOKEN);
    PyObject *message = fill(new_message(), Py_NewRef(data));

    if (message == NULL || token == NULL) {
        Py_XDECREF(message);
        return NULL;
    }
    /* This is done by a constructor in Python, so anything may run meanwhile; the last looks come behind it. */
    PyObject *values_of_result[] = {socket, token, Py_None, state};
    Py_INCREF(queue);
    Py_INCREF(owner);
    result = PyObject_Vectorcall((PyObject *)classes[PENDING_RESULT], values_of_result, 4, NULL);
    if (result != NULL) {
        PyObject *operation = AT(result, RESULT_OPERATION_OF);
        if (is_exactly(operation, RESULT_OPERATION)) {
            put(operation, MESSAGE_OF_OPERATION, Py_NewRef(message));
            if (!join(start, result, operation, 0, 0)) {
                Py_CLEAR(result);
            }
        }
        else {
            Py_CLEAR(result);
        }
    }
    Py_DECREF(message);
    Py_DECREF(owner);
    Py_DECREF(queue);
    return result;
}

static PyObject *
begin_send(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Start start;

    if (names != NULL || count < 1 || count > 6 || !is_a(self, SOCKET)
        || (count > 3 && arguments[3] != no_flags) || (count > 4 && arguments[4] != Py_None)) {
        return hand_over(BEGIN_SEND, self, arguments, count, names);
    }
    start.socket = self;
    start.view.obj = NULL;
    Py_ssize_t offset = count > 1 ? size_of(arguments[1]) : 0;
    int is_rest = count <= 2 || arguments[2] == Py_None;
    Py_ssize_t size = is_rest ? 0 : size_of(arguments[2]);
    if (offset < 0 || size < 0) {
        return hand_over(BEGIN_SEND, self, arguments, count, names);
    }
    /* Made before the last look at the gate, because it may run finalisers. */
    PyObject *result = new_result(), *number = NULL;
    PyObject *state = count > 5 ? arguments[5] : Py_None;
    int fits = 0;
    if (result == NULL) {
        return NULL;
    }
    if (!find_bytes(&start, arguments[0], offset, size, is_rest)
        || (number = PyLong_FromSsize_t(start.size)) == NULL || !(fits = is_fit(&start))
        || (start.budget == 0 && (start.budget = refill(start.owner)) == 0) || !is_open(&start)) {
        PyErr_Clear();
        release_view(&start);
        Py_XDECREF(number);
        PyObject_GC_Track(result);
        Py_DECREF(result);
        result = NULL;
        if (fits && is_rest && offset == 0 && PyBytes_CheckExact(arguments[0])
            && AT(start.queue, QUEUE_GATE) == objects[BUSY]) {
            result = begin_behind_others(&start, arguments[0], state);
        }
        return result != NULL || PyErr_Occurred() ? result
                                                  : hand_over(BEGIN_SEND, self, arguments, count, names);
    }
    AT(result, RESULT_ORIGIN) = Py_NewRef(self);
    AT(result, RESULT_ASYNC_STATE) = Py_NewRef(state);
    AT(result, RESULT_TRANSFERRED) = number;
    AT(result, RESULT_IS_TAKEN) = Py_NewRef(Py_False);
    AT(result, RESULT_HANDLE) = Py_NewRef(Py_None);
    PyObject_GC_Track(result);

    Py_ssize_t sent;
    int error;
    if (attempt(&start, NULL, &sent, &error)) {
        return result;
    }
    return go_on_with_result(&start, result, state, offset, sent, error);
}

static PyObject *
end_send_nowait(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    if (count == 1 && names == NULL && is_exactly(arguments[0], RESULT)) {
        PyObject *result = arguments[0], *transferred = AT(result, RESULT_TRANSFERRED);
        if (AT(result, RESULT_ORIGIN) == self && AT(result, RESULT_IS_TAKEN) == Py_False
            && transferred != NULL) {
            set(result, RESULT_IS_TAKEN, Py_True);
            return Py_NewRef(transferred);
        }
    }
    return hand_over(END_SEND_NOWAIT, self, arguments, count, names);
}

/* -- the head of a queue --------------------------------------------------------------------------------------- */

/* Have the dispatcher tell of an operation; returns -1 with an exception. */
static int
post(PyObject *owner, PyObject *operation)
{
    PyObject *dispatcher = AT(owner, SCOPE_DISPATCHER), *nothing, *batch, *idle, *tasks, *outstanding;

    if (!is_exactly(dispatcher, DISPATCHER)
        || !PyList_CheckExact(batch = AT(dispatcher, DISPATCHER_BATCH))
        || !is_exactly(idle = AT(dispatcher, DISPATCHER_IDLE), WAITING)
        || !PyDict_CheckExact(tasks = AT(idle, WAITING_TASKS)) || PyDict_GET_SIZE(tasks) != 0
        || (outstanding = more(AT(dispatcher, DISPATCHER_OUTSTANDING), 1)) == NULL) {
        PyErr_Clear();
        nothing = PyObject_CallMethodObjArgs(owner, name_post, operation, NULL);
        Py_XDECREF(nothing);
        return nothing == NULL ? -1 : 0;
    }
    put(dispatcher, DISPATCHER_OUTSTANDING, outstanding);
    set(idle, WAITING_NEWS, Py_None);
    return PyList_Append(batch, operation);
}

/* Finish the head of a queue, all of which was accepted, in a step of the queue.

   Returns 1 if that was done, and 0 if it is for Python to do, and nothing was changed; -1 with an exception. */
static int
finish_head(PyObject *queue, PyObject *head)
{
    PyObject *owner = AT(head, OWNER_OF_OPERATION), *behind = AT(head, NEXT);
    PyObject *message = AT(head, MESSAGE_OF_OPERATION);
    int is_args = is_exactly(head, OPERATION), listened_to = 0;

    if (is_args) {
        listened_to = is_listened_to(head);
        if (AT(head, IS_CLOSING) != Py_False || listened_to < 0) {
            return 0;
        }
    }
    else if (is_exactly(head, RESULT_OPERATION)) {
        listened_to = AT(head, RESULT_CALLBACK) != Py_None;
        if (AT(head, RESULT_OPERATION_HANDLE) != Py_None) {
            return 0;
        }
    }
    else {
        return 0;
    }
    if (!is_exactly(owner, SCOPE_OWNER) || !is_known_message(message)
        || AT(head, STATE) != objects[QUEUED] || AT(head, PREVIOUS) != Py_None
        || AT(head, CODE) != objects[SUCCESS] || AT(head, LIMIT) != Py_None
        || (behind != Py_None && (!is_a(behind, RECORD) || AT(behind, LIMIT) != Py_None))
        || AT(queue, QUEUE_TORN) != Py_None || is_watched(AT(queue, QUEUE_INSTRUMENTS))
        || is_watched(AT(owner, SCOPE_INSTRUMENTS)) || AT(owner, SCOPE_QUIET) != Py_None) {
        return 0;
    }
    Py_ssize_t gate = size_of(AT(queue, QUEUE_GATE)), length = size_of(AT(queue, QUEUE_LENGTH));
    PyObject *succeeded = more(AT(queue, QUEUE_SUCCEEDED), 1);
    PyObject *owned = more(AT(owner, OWNER_SUCCEEDED), 1);
    PyObject *remain = length > 0 ? PyLong_FromSsize_t(length - 1) : NULL;
    PyObject *open = gate >= 0 ? PyLong_FromSsize_t(gate & ~values[BUSY]) : NULL;
    if (succeeded == NULL || owned == NULL || remain == NULL || open == NULL
        || !count_in_queue(owner, queue, -1)) {
        PyErr_Clear();
        Py_XDECREF(succeeded);
        Py_XDECREF(owned);
        Py_XDECREF(remain);
        Py_XDECREF(open);
        return 0;
    }
    Py_INCREF(head);
    Py_INCREF(owner);
    /* It leaves the queue. */
    put(queue, QUEUE_HEAD, Py_NewRef(behind));
    if (behind == Py_None) {
        set(queue, QUEUE_TAIL, Py_None);
        set(queue, QUEUE_GATE, open);
    }
    else {
        set(behind, PREVIOUS, Py_None);
        set(head, NEXT, Py_None);
    }
    Py_DECREF(open);
    put(queue, QUEUE_LENGTH, remain);
    put(queue, QUEUE_SUCCEEDED, succeeded);
    put(owner, OWNER_SUCCEEDED, owned);
    if (listened_to) {
        set(head, STATE, objects[DONE]);
        int failed = post(owner, head);
        Py_DECREF(owner);
        Py_DECREF(head);
        return failed < 0 ? -1 : 1;
    }
    /* Nothing has to be called, so it is free. What it holds is let go of last of all. */
    PyObject *waiters = AT(head, WAITERS), *told = Py_None;
    AT(head, WAITERS) = Py_NewRef(Py_None);
    PyObject *before[] = {
        AT(head, QUEUE_OF_OPERATION),
        AT(head, OWNER_OF_OPERATION),
        AT(head, CONTEXT),
        AT(head, FACE),
        is_args ? AT(head, SOCKET_OF_OPERATION) : NULL,
        is_args ? AT(head, CALLER) : NULL,
    };
    AT(head, QUEUE_OF_OPERATION) = Py_NewRef(Py_None);
    AT(head, OWNER_OF_OPERATION) = Py_NewRef(Py_None);
    AT(head, CONTEXT) = Py_NewRef(Py_None);
    AT(head, FACE) = Py_NewRef(Py_None);
    if (is_args) {
        AT(head, SOCKET_OF_OPERATION) = Py_NewRef(Py_None);
        AT(head, CALLER) = Py_NewRef(Py_None);
    }
    set(head, STATE, objects[IDLE]);
    if (waiters != Py_None) {
        told = PyObject_CallMethodObjArgs(waiters, name_wake, AT(head, TRANSFERRED), NULL);
        Py_XDECREF(told);
    }
    Py_DECREF(waiters);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        Py_XDECREF(before[i]);
    }
    Py_DECREF(owner);
    Py_DECREF(head);
    return told == NULL ? -1 : 1;
}

/* Where the bytes of a run are put together. Nothing else runs while they are there. */
static char joined[JOIN_SIZE];

/* Put the bytes of the head and of those behind it together; return how many bytes that are, or -1 if it is for Python
   to do. */
static Py_ssize_t
collect_run(PyObject *head)
{
    Py_ssize_t total = 0, count = 0;

    for (PyObject *operation = head; operation != Py_None && total < values[JOIN_TOTAL];
         operation = AT(operation, NEXT)) {
        PyObject *message = AT(operation, MESSAGE_OF_OPERATION);
        if (!is_a(operation, RECORD)) {
            return -1;
        }
        if (AT(operation, STEP) != Py_None || size_of(AT(operation, FLAGS)) != values[PLAIN_FLAGS]
            || AT(operation, ADDRESS) != Py_None) {
            break;
        }
        if (!is_known_message(message)) {
            return -1;
        }
        PyObject *data = AT(message, MESSAGE_DIRECT);
        Py_ssize_t done = size_of(AT(operation, TRANSFERRED));
        if (data == NULL || !PyBytes_CheckExact(data) || done < 0
            || done > PyBytes_GET_SIZE(data) || (done > 0 && operation != head)) {
            return -1;
        }
        Py_ssize_t size = PyBytes_GET_SIZE(data) - done;
        if (size > JOIN_SIZE - total) {
            return -1;
        }
        memcpy(joined + total, PyBytes_AS_STRING(data) + done, (size_t)size);
        total += size;
        count++;
        if (count == values[MAX_PIECES]) {
            break;
        }
    }
    /* Larger ones are not put together, and one alone has no need to be. */
    return count < 2 || total > values[JOIN_PIECE_SIZE] * count ? -1 : total;
}

/* Send the head and as many of its followers as make up one sensible system call. */
static PyObject *
_attempt_run(PyObject *queue, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *sock, *head;
    Py_ssize_t total;

    if (count != 1 || names != NULL || !is_exactly(queue, QUEUE)
        || !is_exactly(AT(queue, QUEUE_PORT), PORT)
        || (sock = sock_of(AT(AT(queue, QUEUE_PORT), PORT_SEND))) == NULL
        || AT(queue, QUEUE_HEAD) != arguments[0] || AT(queue, QUEUE_HALTED) != Py_False
        || is_watched(AT(queue, QUEUE_INSTRUMENTS)) || size_of(AT(queue, QUEUE_ACCEPTED)) < 0
        || (total = collect_run(arguments[0])) < 0) {
        return hand_over(ATTEMPT_RUN, queue, arguments, count, names);
    }
    int error;
    Py_ssize_t left = send_once(sock, joined, total, &error);
    set(queue, QUEUE_HOPEFUL, Py_False);
    if (left < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_ssize_t used = left - values[OPERATION_COST];
    set(queue, QUEUE_BACKOFF, no_seconds);
    set(queue, QUEUE_BACKOFFS, numbers[0]);
    /* Whoever is whole has ended and leaves the queue at once; at most one is left with a part, and that is the head. */
    while (left > 0) {
        head = Py_NewRef(AT(queue, QUEUE_HEAD));
        PyObject *size_object = AT(AT(head, MESSAGE_OF_OPERATION), MESSAGE_SIZE), *nothing = NULL;
        Py_ssize_t missing = size_of(size_object) - size_of(AT(head, TRANSFERRED));
        used += values[OPERATION_COST];
        if (left < missing) {
            PyObject *number = PyLong_FromSsize_t(left);
            if (number != NULL) {
                nothing = PyObject_CallMethodObjArgs(queue, name_account, head, number, NULL);
                Py_DECREF(number);
            }
            Py_DECREF(head);
            Py_XDECREF(nothing);
            if (nothing == NULL) {
                return NULL;
            }
            break;
        }
        PyObject *accepted = more(AT(queue, QUEUE_ACCEPTED), missing);
        if (accepted == NULL) {
            Py_DECREF(head);
            return NULL;
        }
        set(head, TRANSFERRED, size_object);
        put(queue, QUEUE_ACCEPTED, accepted);
        left -= missing;
        int done = finish_head(queue, head);
        if (done == 0) {
            nothing = PyObject_CallMethodObjArgs(queue, name_finish, head, NULL);
            done = nothing == NULL ? -1 : 1;
            Py_XDECREF(nothing);
        }
        Py_DECREF(head);
        if (done < 0) {
            return NULL;
        }
    }
    return PyLong_FromSsize_t(used);
}

/* What `_finish_alone` does behind the end of the operation: look after the queue, which is empty now. Returns -1 with an
   exception. */
static int
look_after_empty(PyObject *queue)
{
    PyObject *watcher = AT(queue, QUEUE_WATCHER), *marks = AT(queue, QUEUE_MARKS), *nothing = Py_None;

    AT(queue, QUEUE_WATCHER) = Py_NewRef(Py_None);
    if (AT(queue, QUEUE_WATCHED) != Py_None && watcher != Py_None) {
        nothing = PyObject_CallMethodObjArgs(watcher, name_unwatch, queue, NULL);
        Py_XDECREF(nothing);
    }
    Py_DECREF(watcher);
    if (nothing != NULL && AT(marks, MARKS_IS_ABOVE) != Py_False) {
        nothing = PyObject_CallMethodObjArgs(queue, name_weigh, marks, NULL);
        Py_XDECREF(nothing);
    }
    return nothing == NULL ? -1 : 0;
}

/* Send the one message that waits, as long as nobody watches. */
static PyObject *
drain(PyObject *queue, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *head, *message, *data, *sock, *size_object;
    Py_ssize_t done, left;

    if (count != 1 || names != NULL || !is_exactly(queue, QUEUE)
        || AT(queue, QUEUE_GATE) != objects[BUSY] || !is_a(head = AT(queue, QUEUE_HEAD), RECORD)
        || head != AT(queue, QUEUE_TAIL) || !is_known_message(message = AT(head, MESSAGE_OF_OPERATION))
        || (data = AT(message, MESSAGE_DIRECT)) == NULL || !PyBytes_CheckExact(data)
        || AT(head, STEP) != Py_None || AT(head, LIMIT) != Py_None || AT(head, ADDRESS) != Py_None
        || size_of(AT(head, FLAGS)) != values[PLAIN_FLAGS]
        || !PyFloat_CheckExact(AT(queue, QUEUE_BACKOFF))
        || PyFloat_AS_DOUBLE(AT(queue, QUEUE_BACKOFF)) != 0
        || PyList_GET_SIZE(ending_owners) != 0 || is_watched(AT(queue, QUEUE_INSTRUMENTS))
        || !is_exactly(AT(queue, QUEUE_MARKS), MARKS) || !is_exactly(AT(queue, QUEUE_PORT), PORT)
        || (sock = sock_of(AT(AT(queue, QUEUE_PORT), PORT_SEND))) == NULL
        || (done = size_of(AT(head, TRANSFERRED))) < 0
        || (size_object = AT(message, MESSAGE_SIZE)) == NULL
        || size_of(size_object) != PyBytes_GET_SIZE(data)
        || (left = PyBytes_GET_SIZE(data) - done) < 0 || left >= RELEASE_SIZE) {
        return hand_over(DRAIN, queue, arguments, count, names);
    }
    PyObject *accepted = more(AT(queue, QUEUE_ACCEPTED), left);
    PyObject *drained = more(AT(queue, QUEUE_DRAINED), left);
    PyObject *used = PyLong_FromSsize_t(values[OPERATION_COST] + left);
    if (accepted == NULL || drained == NULL || used == NULL) {
        PyErr_Clear();
        Py_XDECREF(accepted);
        Py_XDECREF(drained);
        Py_XDECREF(used);
        return hand_over(DRAIN, queue, arguments, count, names);
    }
    int error;
    Py_ssize_t sent = send_once(sock, PyBytes_AS_STRING(data) + done, left, &error);
    set(queue, QUEUE_HALTED, Py_False);
    set(queue, QUEUE_HOPEFUL, Py_False);
    set(queue, QUEUE_GATE, numbers[values[BUSY] | values[IN_STEP]]);
    Py_INCREF(queue);
    Py_INCREF(head);
    if (sent == left) {
        set(head, TRANSFERRED, size_object);
        put(queue, QUEUE_ACCEPTED, accepted);
        put(queue, QUEUE_DRAINED, drained);
        int finished = finish_head(queue, head);
        if (finished == 0) {
            PyObject *nothing = PyObject_CallMethodObjArgs(queue, name_finish_alone, head, NULL);
            finished = nothing == NULL ? -1 : 1;
            Py_XDECREF(nothing);
        }
        else if (finished > 0) {
            finished = look_after_empty(queue);
        }
        if (finished < 0) {
            (void)end_with_error(queue);
            Py_CLEAR(used);
        }
        else if (end_attempt(queue) < 0) {
            Py_CLEAR(used);
        }
        else if (is_watched(AT(queue, QUEUE_INSTRUMENTS))) {
            PyObject *nothing = PyObject_CallMethodNoArgs(queue, name_tell);
            if (nothing == NULL) {
                Py_CLEAR(used);
            }
            Py_XDECREF(nothing);
        }
    }
    else {
        Py_DECREF(accepted);
        Py_DECREF(drained);
        Py_DECREF(used);
        used = NULL;
        PyObject *number = PyLong_FromSsize_t(sent < 0 ? 0 : sent), *exception = NULL;
        PyObject *transferred = more(AT(head, TRANSFERRED), sent < 0 ? 0 : sent);
        accepted = more(AT(queue, QUEUE_ACCEPTED), sent < 0 ? 0 : sent);
        if (number != NULL && transferred != NULL && accepted != NULL) {
            put(head, TRANSFERRED, transferred);
            put(queue, QUEUE_ACCEPTED, accepted);
            exception = sent < 0 ? error_of(error) : Py_NewRef(Py_None);
        }
        else {
            Py_XDECREF(transferred);
            Py_XDECREF(accepted);
        }
        if (exception == NULL) {
            (void)end_with_error(queue);
        }
        else {
            used = PyObject_CallMethodObjArgs(queue, name_go_on_alone, head, number, exception, NULL);
            Py_DECREF(exception);
        }
        Py_XDECREF(number);
    }
    Py_DECREF(head);
    Py_DECREF(queue);
    return used;
}

/* -- many sockets ---------------------------------------------------------------------------------------------- */

#ifdef __linux__
#define MOST_EVENTS 256

/* Have who waits in one direction be ready, and wait no more; returns -1 with an exception. */
static int
take(PyObject *pollset, PyObject *queues, PyObject *number, PyObject *ready)
{
    PyObject *queue = PyDict_GetItemWithError(queues, number);

    if (queue == NULL || queue == Py_None) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_ssize_t armed = size_of(AT(pollset, POLLSET_ARMED));
    PyObject *fewer = PyLong_FromSsize_t(armed - 1);
    Py_INCREF(queue);
    int failed = fewer == NULL || PyList_Append(ready, queue) < 0;
    if (!failed) {
        put(pollset, POLLSET_ARMED, Py_NewRef(fewer));
        failed = PyDict_DelItem(queues, number) < 0 || PyDict_SetItem(queues, number, Py_None) < 0;
    }
    Py_XDECREF(fewer);
    Py_DECREF(queue);
    return failed ? -1 : 0;
}

static inline int
still_waits(PyObject *queues, PyObject *number)
{
    PyObject *queue = PyDict_GetItemWithError(queues, number);
    return queue != NULL && queue != Py_None;
}
#endif

/* Take the events of an epoll set. */
static PyObject *
fetch(PyObject *pollset, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
#ifdef __linux__
    struct epoll_event events[MOST_EVENTS];
    PyObject *readers, *writers;

    if (count != 0 || names != NULL || !is_exactly(pollset, POLLSET)
        || !Py_IS_TYPE(AT(pollset, POLLSET_EPOLL), epoll_class)
        || !PyDict_CheckExact(readers = AT(pollset, POLLSET_READERS))
        || !PyDict_CheckExact(writers = AT(pollset, POLLSET_WRITERS))) {
        return hand_over(FETCH, pollset, arguments, count, names);
    }
    PyObject *ready = PyList_New(0);
    if (ready == NULL) {
        return NULL;
    }
    int found = epoll_wait((int)size_of(AT(pollset, POLLSET_FD)), events, MOST_EVENTS, 0);
    if (found < 0) { /* for Python to tell */
        Py_DECREF(ready);
        return hand_over(FETCH, pollset, arguments, count, names);
    }
    for (int i = 0; i < found; i++) {
        uint32_t happened = events[i].events;
        PyObject *number = PyLong_FromLong(events[i].data.fd), *nothing = Py_None;
        /* Errors and hang-ups concern both directions; the attempt tells what is wrong. */
        if (number == NULL
            || (happened & (EPOLLOUT | EPOLLERR | EPOLLHUP)
                && take(pollset, writers, number, ready) < 0)
            || (happened & (EPOLLIN | EPOLLERR | EPOLLHUP)
                && take(pollset, readers, number, ready) < 0)) {
            nothing = NULL;
        }
        else if (still_waits(writers, number) || still_waits(readers, number)) {
            nothing = PyObject_CallMethodObjArgs(pollset, name_arm_again, number, ready, NULL);
            Py_XDECREF(nothing);
        }
        Py_XDECREF(number);
        if (nothing == NULL) {
            Py_DECREF(ready);
            return NULL;
        }
    }
    return ready;
#else
    return hand_over(FETCH, pollset, arguments, count, names);
#endif
}

/* Have a sending queue not fetched, which is soon to be armed again. */
static PyObject *
silence(PyObject *pollset, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
#ifdef __linux__
    PyObject *readers, *writers, *armed;

    if (count == 2 && names == NULL && is_exactly(pollset, POLLSET) && PyLong_CheckExact(arguments[0])
        && is_exactly(arguments[1], QUEUE) && Py_IS_TYPE(AT(pollset, POLLSET_EPOLL), epoll_class)
        && PyDict_CheckExact(readers = AT(pollset, POLLSET_READERS))
        && PyDict_CheckExact(writers = AT(pollset, POLLSET_WRITERS))
        && PyDict_GetItemWithError(writers, arguments[0]) == arguments[1]
        && !still_waits(readers, arguments[0])
        && (armed = PyLong_FromSsize_t(size_of(AT(pollset, POLLSET_ARMED)) - 1)) != NULL) {
        int descriptor = (int)size_of(arguments[0]);
        struct epoll_event event = {.events = EPOLLONESHOT, .data.fd = descriptor};
        if (epoll_ctl((int)size_of(AT(pollset, POLLSET_FD)), EPOLL_CTL_MOD, descriptor, &event) == 0) {
            put(pollset, POLLSET_ARMED, armed);
            /* The queue is held by whoever calls. */
            return PyDict_SetItem(writers, arguments[0], Py_None) < 0 ? NULL : Py_NewRef(Py_True);
        }
        Py_DECREF(armed);
    }
    PyErr_Clear();
#endif
    return hand_over(SILENCE, pollset, arguments, count, names);
}

/* -- telling --------------------------------------------------------------------------------------------------- */

static inline int
is_in_flight(PyObject *operation)
{
    Py_ssize_t state = size_of(AT(operation, STATE));
    return values[TRYING] <= state && state <= values[ABORTED];
}

/* Tell args whose send has succeeded: they are free, and their one handler is called. */
static PyObject *
tell(PyObject *operation, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *dispatcher, *face, *event, *handlers, *context, *queue, *socket;

    if (count != 1 || names != NULL || !is_exactly(dispatcher = arguments[0], DISPATCHER)
        || !is_exactly(operation, OPERATION) || AT(operation, STATE) != objects[DONE]
        || AT(operation, CODE) != objects[SUCCESS]
        || AT(operation, IS_OVERRIDDEN) != Py_False || AT(operation, CALLER) != Py_None
        || AT(operation, IS_CLOSING) != Py_False
        || !is_exactly(face = AT(operation, FACE), ARGS)
        || !is_exactly(event = AT(operation, EVENT_OF_ARGS), EVENT)
        || (handlers = AT(event, EVENT_HANDLERS)) == NULL || !PyTuple_CheckExact(handlers)
        || PyTuple_GET_SIZE(handlers) != 1
        || (context = AT(operation, CONTEXT)) == NULL || !PyContext_CheckExact(context)
        || !is_exactly(queue = AT(operation, QUEUE_OF_OPERATION), QUEUE)
        || AT(queue, QUEUE_TORN) != Py_None
        || (socket = AT(operation, SOCKET_OF_OPERATION)) == NULL
        || !is_known_message(AT(operation, MESSAGE_OF_OPERATION))) {
        return hand_over(TELL, operation, arguments, count, names);
    }
    PyObject *handler = Py_NewRef(PyTuple_GET_ITEM(handlers, 0)), *answer = NULL;
    PyObject *owner = AT(operation, OWNER_OF_OPERATION), *waiters = AT(operation, WAITERS);
    PyObject *transferred = Py_NewRef(AT(operation, TRANSFERRED)); /* a handler may start the args anew */
    Py_INCREF(operation);
    Py_INCREF(socket);
    AT(operation, WAITERS) = Py_NewRef(Py_None);
    AT(operation, FACE) = Py_NewRef(Py_None);
    AT(operation, CONTEXT) = Py_NewRef(Py_None);
    AT(operation, QUEUE_OF_OPERATION) = Py_NewRef(Py_None);
    AT(operation, OWNER_OF_OPERATION) = Py_NewRef(Py_None);
    set(operation, STATE, objects[IDLE]);
    Py_XDECREF(owner);
    if (PyContext_Enter(context) == 0) {
        PyObject *stack[] = {handler, socket, face};
        answer = PyObject_Vectorcall(call_unprotected, stack, 3, NULL);
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(answer);
        }
    }
    int is_kept = 0;
    if (answer != NULL && answer != Py_None) {
        PyObject *begin = PyObject_GetAttr(operation, name_handler_begins);
        PyObject *is_to_begin = begin == NULL ? NULL
                                              : PyObject_CallMethodObjArgs(dispatcher, name_go_on, context,
                                                                           answer, begin, NULL);
        Py_XDECREF(begin);
        Py_SETREF(answer, is_to_begin);
        is_kept = is_to_begin == Py_True && !is_in_flight(operation);
    }
    if (is_kept) {
        /* Somebody else's turn may come first, and the handler is to find them as they are, not started anew. */
        Py_SETREF(answer, PyObject_CallMethodObjArgs(operation, name_keep, face, queue, waiters, NULL));
    }
    else {
        PyObject *type, *error, *traceback, *told = Py_None;
        PyErr_Fetch(&type, &error, &traceback); /* what runs here may find no exception set */
        if (waiters != Py_None) {
            told = PyObject_CallMethodObjArgs(waiters, name_wake, transferred, NULL);
            Py_XDECREF(told);
        }
        if (told == NULL) {
            Py_CLEAR(answer);
            Py_XDECREF(type);
            Py_XDECREF(error);
            Py_XDECREF(traceback);
        }
        else {
            if (!is_in_flight(operation) && AT(operation, SOCKET_OF_OPERATION) == socket) {
                set(operation, SOCKET_OF_OPERATION, Py_None);
            }
            PyErr_Restore(type, error, traceback);
        }
    }
    if (answer != NULL) {
        Py_SETREF(answer, Py_NewRef(Py_None));
    }
    Py_DECREF(queue);
    Py_DECREF(face);
    Py_DECREF(context);
    Py_DECREF(handler);
    Py_DECREF(waiters);
    Py_DECREF(transferred);
    Py_DECREF(socket);
    Py_DECREF(operation);
    return answer;
}

/* -- methods --------------------------------------------------------------------------------------------------- */

/* A method of a class: the short way here, and the one in Python behind it. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *method;
    PyMethodDef definition;
} Method;

static PyObject *
call_method(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    Py_ssize_t given = PyVectorcall_NARGS(count);
    Method *method = (Method *)self;

    if (given == 0) {
        return PyObject_Vectorcall(method->method, arguments, count, names);
    }
    _PyCFunctionFastWithKeywords function =
        (_PyCFunctionFastWithKeywords)(void (*)(void))method->definition.ml_meth;
    return function(arguments[0], arguments + 1, given - 1, names);
}

/* Of an object, it is a built-in method, which Python calls faster than anything else. */
static PyObject *
bound(PyObject *self, PyObject *object, PyObject *Py_UNUSED(class))
{
    return object == NULL ? Py_NewRef(self)
                          : PyCFunction_NewEx(&((Method *)self)->definition, object, package);
}

/* Whoever asks what the method is, its signature and its documentation, is told of the one in Python. */
static PyObject *
get_of_method(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((Method *)self)->method, name);
}

static PyObject *
get_attribute(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);

    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((Method *)self)->method, name);
    }
    return value;
}

static PyObject *
represent(PyObject *self)
{
    return PyUnicode_FromFormat("<the compiled short way of %R>", ((Method *)self)->method);
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((Method *)self)->method);
    return 0;
}

static int
clear(PyObject *self)
{
    Py_CLEAR(((Method *)self)->method);
    return 0;
}

static void
deallocate(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    (void)clear(self);
    PyObject_GC_Del(self);
}

static PyMemberDef members_of_methods[] = {
    {"__wrapped__", T_OBJECT_EX, offsetof(Method, method), READONLY, NULL},
    {.name = NULL},
};

static PyGetSetDef getters_of_methods[] = {
    {.name = "__doc__", .get = get_of_method, .closure = "__doc__"},
    {.name = "__module__", .get = get_of_method, .closure = "__module__"},
    {.name = NULL},
};

static PyTypeObject method_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "trio_send._accelerator.Method",
    .tp_basicsize = sizeof(Method),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
                | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_vectorcall_offset = offsetof(Method, call),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = bound,
    .tp_getattro = get_attribute,
    .tp_repr = represent,
    .tp_members = members_of_methods,
    .tp_getset = getters_of_methods,
    .tp_traverse = traverse,
    .tp_clear = clear,
    .tp_dealloc = deallocate,
};

/* -- putting it in place --------------------------------------------------------------------------------------- */

/* Find out where the classes keep what is used here. */
static int
find_attributes(void)
{
    for (int i = 0; i < ATTRIBUTES; i++) {
        PyTypeObject *class = classes[attributes[i].class];
        PyObject *member = PyObject_GetAttrString((PyObject *)class, attributes[i].name);
        if (member == NULL) {
            return -1;
        }
        int is_slot = Py_IS_TYPE(member, &PyMemberDescr_Type)
                      && ((PyMemberDescrObject *)member)->d_member->type == T_OBJECT_EX;
        if (is_slot) {
            offsets[i] = ((PyMemberDescrObject *)member)->d_member->offset;
        }
        Py_DECREF(member);
        if (!is_slot) {
            PyErr_Format(PyExc_TypeError, "%s of %s is no slot", attributes[i].name,
                         class->tp_name);
            return -1;
        }
    }
    return 0;
}

/* Find the method that sends, and see that a socket object begins with its descriptor.

   To see it, a number is put there, in an object that never was a socket, and the object is asked for it. */
static int
find_sending(PyObject *socket_class)
{
    static const int number = 0x5EED;
    PyTypeObject *class = (PyTypeObject *)socket_class;
    PyObject *method = PyObject_GetAttrString(socket_class, "send");

    if (method == NULL) {
        return -1;
    }
    if (!Py_IS_TYPE(method, &PyMethodDescr_Type)
        || class->tp_basicsize < (Py_ssize_t)(sizeof(PyObject) + sizeof(int))) {
        Py_DECREF(method);
        PyErr_SetString(PyExc_TypeError, "the socket class is none of CPython's");
        return -1;
    }
    send_of_sockets = ((PyMethodDescrObject *)method)->d_method;
    Py_DECREF(method); /* the class keeps it */
    PyObject *nothing = PyTuple_New(0);
    PyObject *sock = nothing == NULL ? NULL : class->tp_new(class, nothing, NULL);
    Py_XDECREF(nothing);
    if (sock == NULL) {
        return -1;
    }
    int *field = (int *)((char *)sock + sizeof(PyObject));
    int before = *field;
    *field = number;
    PyObject *told = PyObject_CallMethod(sock, "fileno", NULL);
    *field = before;
    Py_DECREF(sock);
    if (told == NULL) {
        return -1;
    }
    int is_there = before == -1 && PyLong_AsLong(told) == number;
    Py_DECREF(told);
    if (!is_there) {
        PyErr_SetString(PyExc_TypeError, "a socket object does not begin with its descriptor");
        return -1;
    }
    return 0;
}

static int
check_results(void)
{
    PyTypeObject *class = classes[RESULT];
    Py_ssize_t fields = (class->tp_basicsize - (Py_ssize_t)sizeof(PyObject)) / (Py_ssize_t)sizeof(PyObject *);

    if (class->tp_dictoffset != 0 || class->tp_weaklistoffset == 0
        || (fields != FIELDS_OF_RESULTS && fields != FIELDS_OF_RESULTS + 1)) {
        PyErr_SetString(PyExc_TypeError, "a result has other attributes than are known here");
        return -1;
    }
    return 0;
}

#define SHORT_WAY(index, class, name, parameters) [index] = {class, #name, parameters, name},
static const struct {
    int class;
    const char *name;
    const char *parameters;
    _PyCFunctionFastWithKeywords short_way;
} methods[METHODS] = {METHODS_OF(SHORT_WAY)};

/* What a built-in method has instead of a signature and a documentation; it is kept as long as the method. */
static char *
documentation_of(PyObject *method, const char *name, const char *parameters)
{
    PyObject *text = PyObject_GetAttrString(method, "__doc__");
    const char *words = text != NULL && PyUnicode_Check(text) ? PyUnicode_AsUTF8(text) : "";
    char *all = NULL;

    if (words != NULL) {
        size_t size = strlen(name) + strlen(parameters) + strlen(words) + sizeof "\n--\n\n";
        all = PyMem_Malloc(size);
        if (all != NULL) {
            PyOS_snprintf(all, size, "%s%s\n--\n\n%s", name, parameters, words);
        }
    }
    Py_XDECREF(text);
    return all;
}

static int
replace(int index)
{
    PyObject *class = (PyObject *)classes[methods[index].class];
    const char *name = methods[index].name;

    in_python[index] = PyObject_GetAttrString(class, name);
    if (in_python[index] == NULL) {
        return -1;
    }
    Method *made = PyObject_GC_New(Method, &method_type);
    if (made == NULL) {
        return -1;
    }
    made->call = call_method;
    made->method = Py_NewRef(in_python[index]);
    made->definition.ml_name = name;
    made->definition.ml_meth = (PyCFunction)(void (*)(void))methods[index].short_way;
    made->definition.ml_flags = METH_FASTCALL | METH_KEYWORDS;
    made->definition.ml_doc = documentation_of(made->method, name, methods[index].parameters);
    PyObject_GC_Track(made);
    int done = made->definition.ml_doc == NULL ? -1
                                               : PyObject_SetAttrString(class, name, (PyObject *)made);
    Py_DECREF(made);
    return done;
}

/* What is handed in by name, held for ever. Returns NULL with an exception if it is not there. */
static PyObject *
handed_in(PyObject *things, const char *name)
{
    PyObject *thing = things == NULL ? NULL : PyDict_GetItemString(things, name);

    if (thing == NULL) {
        PyErr_Format(PyExc_TypeError, "%s is missing", name);
    }
    return Py_XNewRef(thing);
}

static int
take_in(PyObject *things)
{
    for (int i = 0; i < CLASSES; i++) {
        PyObject *class = handed_in(things, class_names[i]);
        if (class == NULL || !PyType_Check(class)) {
            PyErr_Format(PyExc_TypeError, "%s is no class", class_names[i]);
            return -1;
        }
        classes[i] = (PyTypeObject *)class;
    }
    for (int i = 0; i < NUMBERS; i++) {
        objects[i] = handed_in(things, number_names[i]);
        values[i] = size_of(objects[i]);
        if (values[i] < 0) {
            PyErr_Format(PyExc_TypeError, "%s is no number", number_names[i]);
            return -1;
        }
    }
    current_owner = handed_in(things, "current_owner");
    no_flags = handed_in(things, "no_flags");
    send_kind = handed_in(things, "send");
    pace_of_starts = handed_in(things, "pace_of_starts");
    ending_owners = handed_in(things, "ending_owners");
    call_unprotected = handed_in(things, "call_unprotected");
    current_trio_token = handed_in(things, "current_trio_token");
    PyObject *epoll = handed_in(things, "epoll_class"); /* None where there is none */
    package = PyUnicode_InternFromString("trio_send");
    no_seconds = PyFloat_FromDouble(0.0);
    no_size = PyLong_FromLong(-1);
    for (int i = 0; i <= LARGEST_BUDGET; i++) {
        numbers[i] = PyLong_FromLong(i);
    }
    /* Whatever became of the descriptor, the call must not wait, because no other thread runs meanwhile. */
    plain_flags = (int)values[PLAIN_FLAGS] | MSG_DONTWAIT;
    if (PyErr_Occurred()) {
        return -1;
    }
    epoll_class = PyType_Check(epoll) ? (PyTypeObject *)epoll : NULL;
    if (!PyDict_Check(pace_of_starts) || !PyList_CheckExact(ending_owners)
        || values[JOIN_TOTAL] != JOIN_SIZE || (values[BUSY] | values[IN_STEP]) > LARGEST_BUDGET
        || values[STARTS_PER_LOOK] > LARGEST_BUDGET) {
        PyErr_SetString(PyExc_TypeError, "a number is another one than is known here");
        return -1;
    }
    return 0;
}

static const struct {
    PyObject **place;
    const char *name;
} names[] = {
    {&name_account, "_account"},
    {&name_arm_again, "_arm_again"},
    {&name_begin_send_stuck, "_begin_send_stuck"},
    {&name_end_attempt, "end_attempt"},
    {&name_finish, "_finish"},
    {&name_finish_alone, "_finish_alone"},
    {&name_go_on, "go_on"},
    {&name_go_on_alone, "go_on_alone"},
    {&name_handler_begins, "handler_begins"},
    {&name_is_completed, "is_completed"},
    {&name_keep, "keep"},
    {&name_post, "post"},
    {&name_send_async_ended, "_send_async_ended"},
    {&name_send_async_stuck, "_send_async_stuck"},
    {&name_start_budget, "START_BUDGET"},
    {&name_tell, "_tell"},
    {&name_unwatch, "unwatch"},
    {&name_wake, "wake"},
    {&name_watch_first, "_watch_first"},
    {&name_weigh, "_weigh"},
};

PyDoc_STRVAR(install_doc,
"install(**things)\n"
"--\n\n"
"Have the short ways gone here; once in a process.\n\n"
"The things are the classes, numbers and objects of the package that are used.");

static PyObject *
install(PyObject *Py_UNUSED(module), PyObject *positional, PyObject *things)
{
    static int is_installed = 0;

    if (PyTuple_GET_SIZE(positional) != 0) {
        PyErr_SetString(PyExc_TypeError, "install() takes no positional arguments");
        return NULL;
    }
    if (is_installed) {
        PyErr_SetString(PyExc_RuntimeError, "another copy of the package has it");
        return NULL;
    }
    is_installed = 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i].place = PyUnicode_InternFromString(names[i].name);
        if (*names[i].place == NULL) {
            return NULL;
        }
    }
    PyObject *socket_class = handed_in(things, "socket_class");
    if (socket_class == NULL || take_in(things) < 0 || find_attributes() < 0
        || find_sending(socket_class) < 0 || check_results() < 0) {
        return NULL;
    }
    for (int i = 0; i < METHODS; i++) {
        if (replace(i) < 0) {
            return NULL;
        }
    }
    classes[RESULT]->tp_dealloc = free_result;
    classes[RESULT]->tp_getattro = get_of_result;
    PyType_Modified(classes[RESULT]);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"install", (PyCFunction)(void (*)(void))install, METH_VARARGS | METH_KEYWORDS, install_doc},
    {.ml_name = NULL},
};

/* What is kept is kept once in a process, so there is one interpreter that can have it. */
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "trio_send._accelerator",
    .m_doc = "The short ways of sending, compiled.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__accelerator(void)
{
    if (PyType_Ready(&method_type) < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddStringConstant(module, "SOURCE", SOURCE) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
