/* The short ways of `Socket.send_async`, `Socket.begin_send` and `Socket.end_send_nowait`, compiled.

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

/* -- what is known of the classes ------------------------------------------------------------------------------ */

enum { SOCKET, CORE, ARGS, OPERATION, RESULT, OWNER, QUEUE, PIECE, CLASSES };

static PyTypeObject *classes[CLASSES];

enum {
    SOCKET_CORE,
    CORE_CHECKED,
    CORE_SEND,
    CORE_SENDS,
    CORE_THREAD,
    ARGS_OPERATION,
    OPERATION_CODE,
    OPERATION_DIRECT,
    OPERATION_IS_FRESH,
    OPERATION_KIND,
    OPERATION_PIECE,
    OPERATION_SIZE,
    OPERATION_STATE,
    OPERATION_TRANSFERRED,
    RESULT_ASYNC_STATE,
    RESULT_HANDLE,
    RESULT_IS_TAKEN,
    RESULT_ORIGIN,
    RESULT_TRANSFERRED,
    OWNER_BUDGET,
    QUEUE_ACCEPTED,
    QUEUE_GATE,
    PIECE_BUFFER,
    PIECE_OFFSET,
    PIECE_SIZE,
    ATTRIBUTES
};

static const struct {
    int class;
    const char *name;
} attributes[ATTRIBUTES] = {
    [SOCKET_CORE] = {SOCKET, "_core"},
    [CORE_CHECKED] = {CORE, "checked"},
    [CORE_SEND] = {CORE, "send"},
    [CORE_SENDS] = {CORE, "sends"},
    [CORE_THREAD] = {CORE, "thread"},
    [ARGS_OPERATION] = {ARGS, "_operation"},
    [OPERATION_CODE] = {OPERATION, "code"},
    [OPERATION_DIRECT] = {OPERATION, "direct"},
    [OPERATION_IS_FRESH] = {OPERATION, "is_fresh"},
    [OPERATION_KIND] = {OPERATION, "kind"},
    [OPERATION_PIECE] = {OPERATION, "piece"},
    [OPERATION_SIZE] = {OPERATION, "size"},
    [OPERATION_STATE] = {OPERATION, "state"},
    [OPERATION_TRANSFERRED] = {OPERATION, "transferred"},
    [RESULT_ASYNC_STATE] = {RESULT, "async_state"},
    [RESULT_HANDLE] = {RESULT, "handle"},
    [RESULT_IS_TAKEN] = {RESULT, "is_taken"},
    [RESULT_ORIGIN] = {RESULT, "origin"},
    [RESULT_TRANSFERRED] = {RESULT, "transferred"},
    [OWNER_BUDGET] = {OWNER, "budget"},
    [QUEUE_ACCEPTED] = {QUEUE, "accepted"},
    [QUEUE_GATE] = {QUEUE, "gate"},
    [PIECE_BUFFER] = {PIECE, "buffer"},
    [PIECE_OFFSET] = {PIECE, "offset"},
    [PIECE_SIZE] = {PIECE, "size"},
};

static Py_ssize_t offsets[ATTRIBUTES];

#define AT(object, attribute) (*(PyObject **)((char *)(object) + offsets[attribute]))

/* What else is needed, held for ever. Of these numbers Python has one object each. */
static PyObject *current_owner, *no_flags, *send_kind;
static PyObject *number_idle, *number_trying, *number_step, *number_success;
static PyObject *numbers[LARGEST_BUDGET + 1];
static PyObject *name_begin_send_stuck, *name_end_attempt, *name_send_async_ended, *name_send_async_stuck;
static PyMethodDef *send_of_sockets;
static int plain_flags;

static inline int
is_a(PyObject *object, int class)
{
    return object != NULL && PyObject_TypeCheck(object, classes[class]);
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
        Py_INCREF(value);
        put(object, attribute, value);
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

/* Look at what all starts have in common; return whether the way is open. Runs no code of Python's. */
static inline int
is_open(Start *start)
{
    PyObject *core = AT(start->socket, SOCKET_CORE);
    PyObject *owner = NULL;

    if (!is_a(core, CORE)) {
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
    if (owner != AT(core, CORE_CHECKED) || !is_a(owner, OWNER)) {
        return 0;
    }
    PyObject *thread = AT(core, CORE_THREAD);
    if (thread == NULL || !PyLong_CheckExact(thread)
        || PyLong_AsUnsignedLongMask(thread) != PyThread_get_thread_ident()) {
        return 0;
    }
    Py_ssize_t budget = size_of(AT(owner, OWNER_BUDGET));
    if (budget <= 0 || budget > LARGEST_BUDGET) {
        return 0;
    }
    /* A port of the program's own has another method, and so has a socket of a class of its own. */
    PyObject *send_method = AT(core, CORE_SEND);
    if (send_method == NULL || !PyCFunction_CheckExact(send_method)
        || ((PyCFunctionObject *)send_method)->m_ml != send_of_sockets) {
        return 0;
    }
    PyObject *queue = AT(core, CORE_SENDS);
    if (!is_a(queue, QUEUE) || AT(queue, QUEUE_GATE) != numbers[0]) {
        return 0;
    }
    Py_ssize_t accepted = size_of(AT(queue, QUEUE_ACCEPTED));
    if (accepted < 0 || accepted > PY_SSIZE_T_MAX - start->size) {
        return 0;
    }
    start->accepted_after = PyLong_FromSsize_t(accepted + start->size);
    if (start->accepted_after == NULL) {
        PyErr_Clear();
        return 0;
    }
    start->budget = budget;
    start->owner = owner;
    start->queue = queue;
    start->sock = ((PyCFunctionObject *)send_method)->m_self;
    return 1;
}

static inline int
descriptor_of(PyObject *sock)
{
    return *(int *)((char *)sock + sizeof(PyObject));
}

/* Ask the kernel once, while nothing else runs. Returns how many bytes it took; or -1, and the number of the error. */
static inline Py_ssize_t
ask(Start *start, int *error)
{
    int descriptor = descriptor_of(start->sock);
    Py_ssize_t sent;

    do {
        sent = send(descriptor, start->data, (size_t)start->size, plain_flags);
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
    set(start->queue, QUEUE_GATE, number_step);
    if (operation != NULL) {
        set(operation, OPERATION_STATE, number_trying);
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

   A small message is sent before anything is noted, because nothing can run in between. If the kernel took all of it,
   that is all, and the answer is true. Otherwise a step has begun, whoever called goes on with it, and lets go. */
static inline int
attempt(Start *start, PyObject *operation, Py_ssize_t *sent, int *error)
{
    if (start->size < RELEASE_SIZE) {
        *sent = ask(start, error);
        release_view(start);
        if (*sent == start->size) {
            put(start->queue, QUEUE_ACCEPTED, start->accepted_after);
            set(start->owner, OWNER_BUDGET, numbers[start->budget - 1]);
            return 1;
        }
        begin_step(start, operation);
        return 0;
    }
    begin_step(start, operation);
    if (PyByteArray_CheckExact(start->buffer)
        && PyObject_GetBuffer(start->buffer, &start->view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear(); /* it cannot be locked, so no other thread may run */
        *sent = ask(start, error);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        *sent = ask(start, error);
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
    if (AT(queue, QUEUE_GATE) == number_step) {
        set(queue, QUEUE_GATE, numbers[0]);
        return 0;
    }
    PyObject *nothing = PyObject_CallMethodNoArgs(queue, name_end_attempt);
    Py_XDECREF(nothing);
    return nothing == NULL ? -1 : 0;
}

/* End a step of which nothing can be told, for want of memory for a number or an exception. */
static PyObject *
give_up(Start *start, PyObject *operation)
{
    PyErr_Clear();
    if (operation != NULL) {
        set(operation, OPERATION_STATE, number_idle);
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

/* -- the three methods ----------------------------------------------------------------------------------------- */

/* A method of a class: the short way here, and the one in Python behind it. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc short_way;
    PyObject *method;
} Method;

static inline PyObject *
hand_over(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    return PyObject_Vectorcall(((Method *)self)->method, arguments, count, names);
}

/* Go on with args behind an attempt in a step. */
static PyObject *
go_on_with_args(Start *start, PyObject *args, Py_ssize_t sent, int error)
{
    PyObject *operation = AT(args, ARGS_OPERATION);
    PyObject *answer = NULL, *number, *exception;

    if (sent == start->size) {
        Py_ssize_t budget = size_of(AT(start->owner, OWNER_BUDGET));
        if (AT(start->queue, QUEUE_GATE) == number_step && budget == start->budget) {
            set(start->queue, QUEUE_GATE, numbers[0]);
            set(start->owner, OWNER_BUDGET, numbers[budget - 1]);
            set(operation, OPERATION_STATE, number_idle);
            answer = Py_NewRef(Py_False);
        }
        else { /* another thread has done something meanwhile */
            answer = PyObject_CallMethodObjArgs(start->socket, name_send_async_ended, args,
                                                start->owner, NULL);
        }
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
send_async(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    Start start;

    if (PyVectorcall_NARGS(count) != 2 || names != NULL || !is_a(arguments[0], SOCKET)
        || !is_a(arguments[1], ARGS)) {
        return hand_over(self, arguments, count, names);
    }
    PyObject *args = arguments[1], *operation = AT(args, ARGS_OPERATION);
    if (!is_a(operation, OPERATION)) {
        return hand_over(self, arguments, count, names);
    }
    start.socket = arguments[0];
    start.view.obj = NULL;
    PyObject *buffer = AT(operation, OPERATION_DIRECT);
    PyObject *size_object = AT(operation, OPERATION_SIZE);
    Py_ssize_t size = size_of(size_object), offset = 0;
    if (buffer == Py_None) {
        PyObject *piece = AT(operation, OPERATION_PIECE);
        if (piece == NULL || Py_TYPE(piece) != classes[PIECE]
            || size_of(AT(piece, PIECE_SIZE)) != size) {
            return hand_over(self, arguments, count, names);
        }
        buffer = AT(piece, PIECE_BUFFER);
        offset = size_of(AT(piece, PIECE_OFFSET));
    }
    if (AT(operation, OPERATION_STATE) != number_idle || size < 0 || offset < 0
        || !find_bytes(&start, buffer, offset, size, 0) || !is_open(&start)) {
        release_view(&start);
        return hand_over(self, arguments, count, names);
    }

    Py_ssize_t sent;
    int error;
    Py_INCREF(size_object);
    int is_over = attempt(&start, operation, &sent, &error);
    if (sent == size) {
        set(operation, OPERATION_TRANSFERRED, size_object);
        set(operation, OPERATION_CODE, number_success);
        set(operation, OPERATION_IS_FRESH, Py_False);
        set(operation, OPERATION_KIND, send_kind);
    }
    Py_DECREF(size_object);
    return is_over ? Py_NewRef(Py_False) : go_on_with_args(&start, args, sent, error);
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

static PyObject *
begin_send(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    Start start;
    Py_ssize_t given = PyVectorcall_NARGS(count);

    if (names != NULL || given < 2 || given > 7 || !is_a(arguments[0], SOCKET)
        || (given > 4 && arguments[4] != no_flags) || (given > 5 && arguments[5] != Py_None)) {
        return hand_over(self, arguments, count, names);
    }
    start.socket = arguments[0];
    start.view.obj = NULL;
    Py_ssize_t offset = given > 2 ? size_of(arguments[2]) : 0;
    int is_rest = given <= 3 || arguments[3] == Py_None;
    Py_ssize_t size = is_rest ? 0 : size_of(arguments[3]);
    if (offset < 0 || size < 0) {
        return hand_over(self, arguments, count, names);
    }
    /* Made before the last look at the gate, because it may run finalisers. */
    PyObject *result = classes[RESULT]->tp_alloc(classes[RESULT], 0), *number = NULL;
    if (result == NULL) {
        return NULL;
    }
    if (!find_bytes(&start, arguments[1], offset, size, is_rest)
        || (number = PyLong_FromSsize_t(start.size)) == NULL || !is_open(&start)) {
        PyErr_Clear();
        release_view(&start);
        Py_XDECREF(number);
        Py_DECREF(result);
        return hand_over(self, arguments, count, names);
    }
    PyObject *state = given > 6 ? arguments[6] : Py_None;
    AT(result, RESULT_ORIGIN) = Py_NewRef(start.socket);
    AT(result, RESULT_ASYNC_STATE) = Py_NewRef(state);
    AT(result, RESULT_TRANSFERRED) = number;
    AT(result, RESULT_IS_TAKEN) = Py_NewRef(Py_False);
    AT(result, RESULT_HANDLE) = Py_NewRef(Py_None);

    Py_ssize_t sent;
    int error;
    if (attempt(&start, NULL, &sent, &error)) {
        return result;
    }
    return go_on_with_result(&start, result, state, offset, sent, error);
}

static PyObject *
end_send_nowait(PyObject *self, PyObject *const *arguments, size_t count, PyObject *names)
{
    if (PyVectorcall_NARGS(count) == 2 && names == NULL
        && Py_TYPE(arguments[1]) == classes[RESULT]) {
        PyObject *result = arguments[1];
        PyObject *transferred = AT(result, RESULT_TRANSFERRED);
        if (AT(result, RESULT_ORIGIN) == arguments[0] && AT(result, RESULT_IS_TAKEN) == Py_False
            && transferred != NULL) {
            set(result, RESULT_IS_TAKEN, Py_True);
            return Py_NewRef(transferred);
        }
    }
    return hand_over(self, arguments, count, names);
}

static PyObject *
bound(PyObject *self, PyObject *object, PyObject *Py_UNUSED(class))
{
    return object == NULL ? Py_NewRef(self) : PyMethod_New(self, object);
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
    .tp_vectorcall_offset = offsetof(Method, short_way),
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
replace(PyTypeObject *class, const char *name, vectorcallfunc short_way)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)class, name);

    if (method == NULL) {
        return -1;
    }
    Method *made = PyObject_GC_New(Method, &method_type);
    if (made == NULL) {
        Py_DECREF(method);
        return -1;
    }
    made->short_way = short_way;
    made->method = method;
    PyObject_GC_Track(made);
    int done = PyObject_SetAttrString((PyObject *)class, name, (PyObject *)made);
    Py_DECREF(made);
    return done;
}

static const struct {
    PyObject **place;
    const char *name;
} names[] = {
    {&name_begin_send_stuck, "_begin_send_stuck"},
    {&name_end_attempt, "end_attempt"},
    {&name_send_async_ended, "_send_async_ended"},
    {&name_send_async_stuck, "_send_async_stuck"},
};

PyDoc_STRVAR(install_doc,
"install(*, socket, core, args, operation, result, owner, queue, piece, socket_class,\n"
"        current_owner, no_flags, send, idle, trying, step, success, plain_flags)\n"
"--\n\n"
"Have the short ways of a class of sockets gone here; once in a process.");

static PyObject *
install(PyObject *Py_UNUSED(module), PyObject *positional, PyObject *named)
{
    static char *parameters[] = {"socket", "core", "args", "operation", "result", "owner",
                                 "queue", "piece", "socket_class", "current_owner", "no_flags", "send", "idle",
                                 "trying", "step", "success", "plain_flags", NULL};
    static int is_installed = 0;
    PyObject *of_context, *flags, *kind, *socket_class;
    PyTypeObject *found[CLASSES];
    int idle, trying, step, success, native_flags;

    if (!PyArg_ParseTupleAndKeywords(
            positional, named, "$O!O!O!O!O!O!O!O!O!O!OOiiiii", parameters, &PyType_Type,
            &found[SOCKET], &PyType_Type, &found[CORE], &PyType_Type, &found[ARGS],
            &PyType_Type, &found[OPERATION], &PyType_Type, &found[RESULT], &PyType_Type,
            &found[OWNER], &PyType_Type, &found[QUEUE], &PyType_Type, &found[PIECE], &PyType_Type, &socket_class, &PyContextVar_Type, &of_context, &flags,
            &kind, &idle, &trying, &step, &success, &native_flags)) {
        return NULL;
    }
    if (is_installed) {
        PyErr_SetString(PyExc_RuntimeError, "another copy of the package has it");
        return NULL;
    }
    is_installed = 1;
    for (int i = 0; i < CLASSES; i++) {
        classes[i] = (PyTypeObject *)Py_NewRef((PyObject *)found[i]);
    }
    current_owner = Py_NewRef(of_context);
    no_flags = Py_NewRef(flags);
    send_kind = Py_NewRef(kind);
    /* Whatever became of the descriptor, the call must not wait, because no other thread runs meanwhile. */
    plain_flags = native_flags | MSG_DONTWAIT;
    number_idle = PyLong_FromLong(idle);
    number_trying = PyLong_FromLong(trying);
    number_step = PyLong_FromLong(step);
    number_success = PyLong_FromLong(success);
    for (int i = 0; i <= LARGEST_BUDGET; i++) {
        numbers[i] = PyLong_FromLong(i);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i].place = PyUnicode_InternFromString(names[i].name);
        if (*names[i].place == NULL) {
            return NULL;
        }
    }
    if (find_attributes() < 0 || find_sending(socket_class) < 0
        || replace(classes[SOCKET], "send_async", send_async) < 0
        || replace(classes[SOCKET], "begin_send", begin_send) < 0
        || replace(classes[SOCKET], "end_send_nowait", end_send_nowait) < 0) {
        return NULL;
    }
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
